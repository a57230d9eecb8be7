//! Which module depends on which, level by level: the modules that one parent declares, each with everything below it. A path
//! from one file to another is an edge at the level where their ways part; between parent and child there is none.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Modules, Name};

/// Parent → from → to.
pub type Levels = BTreeMap<Name, BTreeMap<String, BTreeSet<String>>>;

/// The levels of a crate. A module without edges is at its level all the same.
pub fn levels(modules: &Modules) -> Levels {
    let mut levels = Levels::new();
    for (module, paths) in &modules.paths {
        if let Some((name, parent)) = module.split_last() {
            levels.entry(parent.to_vec()).or_default().entry(name.clone()).or_default();
        }
        for path in paths {
            let target = modules.module_of(path);
            let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(common), target.get(common)) {
                let level = levels.entry(module[..common].to_vec()).or_default();
                level.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    levels
}

/// A way from a module back to itself, if there is one: each of its modules depends on the next, the last one on the first.
pub fn circle(level: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    level.keys().find_map(|start| search(level, start, &mut Vec::new(), &mut done))
}

fn search<'a>(
    level: &'a BTreeMap<String, BTreeSet<String>>,
    module: &'a String,
    way: &mut Vec<&'a String>,
    done: &mut BTreeSet<&'a String>,
) -> Option<Vec<String>> {
    if let Some(begin) = way.iter().position(|before| *before == module) {
        return Some(way[begin..].iter().map(|module| (*module).clone()).collect());
    }
    if done.contains(module) {
        return None;
    }
    way.push(module);
    let found = level.get(module).into_iter().flatten().find_map(|next| search(level, next, way, done));
    way.pop();
    done.insert(module);
    found
}
