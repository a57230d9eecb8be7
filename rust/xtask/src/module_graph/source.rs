//! The modules of a crate and the paths that each of them names, read from the tokens of its files: comments and texts do not
//! count, what macros are given does. Modules for tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path of names below the root of its crate; the root itself has none.
pub type Name = Vec<String>;

/// What the files of a crate say.
#[derive(Debug, Default)]
pub struct Modules {
    /// Every module that has a file of its own, and the paths that it names.
    pub paths: BTreeMap<Name, BTreeSet<Name>>,
    /// Module and name → the path that the name is imported from.
    imports: BTreeMap<(Name, String), Name>,
}

impl Modules {
    /// Reads the crate whose root is this file.
    pub fn of_crate(root: &Path) -> Result<Self> {
        let mut modules = Self::default();
        let folder = root.parent().context("a file is in a folder")?;
        let read = |name: &[String]| {
            let file = file_of(folder, name, root)?;
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        modules.read(Vec::new(), &read)?;
        Ok(modules)
    }

    /// Reads a module and those that it declares; `file` returns the text of a module.
    pub fn read(&mut self, name: Name, file: &dyn Fn(&[String]) -> Result<String>) -> Result<()> {
        let text = file(&name)?;
        let tokens: TokenStream =
            text.parse().map_err(|error| anyhow!("module {}: {error}", name.join("::")))?;
        let mut reader = Reader { at: name.clone(), file: name.clone(), children: Vec::new(), modules: self };
        reader.modules.paths.entry(name).or_default();
        reader.items(tokens, true);
        for child in reader.children {
            self.read(child, file)?;
        }
        Ok(())
    }

    /// The module of its own file in which the thing at `path` is, after imports that pass it on.
    pub fn module_of(&self, path: &[String]) -> Name {
        let mut path = path.to_vec();
        // Imports that refer to each other end some time.
        for _ in 0..16 {
            let mut length = 0;
            while length < path.len() && self.paths.contains_key(&path[..=length]) {
                length += 1;
            }
            let (module, rest) = path.split_at(length);
            let import = rest.first().and_then(|name| self.imports.get(&(module.to_vec(), name.clone())));
            match import {
                Some(import) => path = [import.as_slice(), &rest[1..]].concat(),
                None => return module.to_vec(),
            }
        }
        Vec::new()
    }
}

fn file_of(folder: &Path, name: &[String], root: &Path) -> Result<PathBuf> {
    if name.is_empty() {
        return Ok(root.to_owned());
    }
    let path = name.iter().fold(folder.to_owned(), |path, part| path.join(part));
    let candidates = [path.with_extension("rs"), path.join("mod.rs")];
    let missing = || anyhow!("module {} of {} has no file", name.join("::"), root.display());
    candidates.into_iter().find(|file| file.is_file()).ok_or_else(missing)
}

struct Reader<'a> {
    /// The module whose items are read, which may be one without a file of its own.
    at: Name,
    file: Name,
    children: Vec<Name>,
    modules: &'a mut Modules,
}

impl Reader<'_> {
    /// Reads tokens; `in_module`: they are items of the module, not what is within one of them.
    fn items(&mut self, tokens: TokenStream, in_module: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut place = 0;
        while place < tokens.len() {
            place = match &tokens[place] {
                TokenTree::Punct(punct) if punct.as_char() == '#' && is_for_tests(tokens.get(place + 1)) => {
                    end_of_item(&tokens, place + 2)
                }
                TokenTree::Ident(word) if word == "mod" && in_module => self.module(&tokens, place + 1),
                TokenTree::Ident(word) if word == "use" && !is_punct(tokens.get(place + 1), '<') => {
                    let end = end_of_use(&tokens, place + 1);
                    self.import(&tokens[place + 1..end], &Vec::new(), in_module);
                    end
                }
                TokenTree::Ident(_) if !follows_path(&tokens, place) => self.path(&tokens, place),
                TokenTree::Group(group) => {
                    self.items(group.stream(), false);
                    place + 1
                }
                _ => place + 1,
            };
        }
    }

    /// `name;` or `name { … }`; returns where it ends.
    fn module(&mut self, tokens: &[TokenTree], place: usize) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(place) else { return place };
        match tokens.get(place + 1) {
            Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => {
                self.at.push(name.to_string());
                self.items(body.stream(), true);
                self.at.pop();
            }
            _ => self.children.push([self.at.as_slice(), &[name.to_string()]].concat()),
        }
        place + 2
    }

    /// A tree of imports below `base`.
    fn import(&mut self, tree: &[TokenTree], base: &[String], in_module: bool) {
        let mut path = base.to_vec();
        let mut place = 0;
        while let Some(token) = tree.get(place) {
            match token {
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for branch in inner.split(|token| is_punct(Some(token), ',')) {
                        self.import(branch, &path, in_module);
                    }
                    return;
                }
                TokenTree::Ident(word) if word == "as" => break,
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".to_owned()),
                _ => {}
            }
            place += 1;
        }
        let Some(absolute) = self.absolute(&path) else { return };
        let alias = tree.get(place + 1).map(ToString::to_string);
        if let Some(name) = alias.or_else(|| absolute.last().cloned())
            && in_module
            && self.at == self.file
        {
            self.modules.imports.insert((self.at.clone(), name), absolute.clone());
        }
        self.note(absolute);
    }

    /// A path within code; returns where it ends.
    fn path(&mut self, tokens: &[TokenTree], place: usize) -> usize {
        let mut path = vec![tokens[place].to_string()];
        let mut end = place + 1;
        while let Some(TokenTree::Ident(part)) = tokens.get(end + 2)
            && is_punct(tokens.get(end), ':')
            && is_punct(tokens.get(end + 1), ':')
        {
            path.push(part.to_string());
            end += 3;
        }
        if path.len() > 1
            && ["crate", "self", "super"].contains(&path[0].as_str())
            && let Some(absolute) = self.absolute(&path)
        {
            self.note(absolute);
        }
        end
    }

    /// The path from the root of the crate; `None`: it is of another crate.
    fn absolute(&self, path: &[String]) -> Option<Name> {
        let mut base = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.at.clone(),
            // A module that this one declares: nothing but parent and child.
            first => {
                let child = [self.at.as_slice(), &[first.to_owned()]].concat();
                return self.children.contains(&child).then(|| [self.at.as_slice(), path].concat());
            }
        };
        let mut rest = path;
        while let Some(first) =
            rest.first().filter(|first| ["crate", "self", "super"].contains(&first.as_str()))
        {
            if first == "super" {
                base.pop();
            }
            rest = &rest[1..];
        }
        base.extend(rest.iter().filter(|part| !["self", "*"].contains(&part.as_str())).cloned());
        Some(base)
    }

    fn note(&mut self, path: Name) {
        self.modules.paths.entry(self.file.clone()).or_default().insert(path);
    }
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

/// Whether the identifier at `place` goes on with a path that begins before it.
fn follows_path(tokens: &[TokenTree], place: usize) -> bool {
    place > 1 && is_punct(tokens.get(place - 1), ':') && is_punct(tokens.get(place - 2), ':')
}

fn is_for_tests(attribute: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = attribute else { return false };
    let text: String = group.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// The end of the item that begins here: its semicolon or its body.
fn end_of_item(tokens: &[TokenTree], place: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    tokens[place..].iter().position(ends).map_or(tokens.len(), |length| place + length + 1)
}

fn end_of_use(tokens: &[TokenTree], place: usize) -> usize {
    let is_end = |token: &TokenTree| is_punct(Some(token), ';');
    tokens[place..].iter().position(is_end).map_or(tokens.len(), |length| place + length)
}
