//! Chromium without a window, driven by `chromedriver` (`CHROMEDRIVER_BIN`, `CHROMIUM_BIN`) over the WebDriver protocol.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::backend::free_port;
use crate::process::Process;
use crate::{programs, until};

/// How WebDriver names an element in its replies.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one page. Dropping it ends it.
pub struct Browser {
    http: Client,
    session: String,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// Opens a page of this size, in pixels of the page; with `phone`, as a phone has it.
    pub fn open((width, height): (u32, u32), phone: bool) -> Result<Self> {
        let port = free_port()?;
        let profile = tempfile::Builder::new().prefix("browser-").tempdir()?;
        let mut command = Command::new(programs::chromedriver()?);
        command.arg(format!("--port={port}")).env("HOME", profile.path());
        let driver = Process::start("chromedriver", command)?;
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        let base = format!("http://127.0.0.1:{port}");
        until("chromedriver to answer", || {
            Ok(http.get(format!("{base}/status")).send().is_ok().then_some(()))
        })?;
        let mut options = json!({
            "binary": programs::chromium()?,
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                format!("--window-size={width},{height}"), format!("--user-data-dir={}", profile.path().display()),
            ],
        });
        if phone {
            options["mobileEmulation"] =
                json!({"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0}});
        }
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let reply = call(&http, Method::POST, &format!("{base}/session"), Some(&wanted))?;
        let id = reply["sessionId"].as_str().with_context(|| format!("no session: {reply}"))?;
        Ok(Self { session: format!("{base}/session/{id}"), http, _driver: driver, _profile: profile })
    }

    /// Goes to `url`.
    pub fn go_to(&self, url: &str) -> Result<()> {
        self.post("url", &json!({ "url": url })).map(drop)
    }

    /// Runs a function body in the page and returns its result.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression holds in the page.
    pub fn wait_until(&self, expression: &str) -> Result<()> {
        until(expression, || Ok((self.run(&format!("return !!({expression})"))? == true).then_some(())))
            .with_context(|| format!("the page shows: {:?}", self.run("return document.body.innerText")))
    }

    /// Types into the element with this selector.
    pub fn type_into(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.element("css selector", selector)?;
        self.post(&format!("element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// Clicks on the element with this selector.
    pub fn click(&self, selector: &str) -> Result<()> {
        let element = self.element("css selector", selector)?;
        self.post(&format!("element/{element}/click"), &json!({})).map(drop)
    }

    /// Clicks on the first visible button with this text in the part of the page with this selector.
    pub fn click_button(&self, part: &str, text: &str) -> Result<()> {
        let path = format!("//*[@id='{part}']//button[normalize-space()='{text}']");
        let element = self.element("xpath", &path)?;
        self.post(&format!("element/{element}/click"), &json!({})).map(drop)
    }

    /// Saves a picture of the page.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        let shot = call(&self.http, Method::GET, &format!("{}/screenshot", self.session), None)?;
        fs::write(file, STANDARD.decode(shot.as_str().context("no picture")?)?)?;
        Ok(())
    }

    /// What the page has logged: errors of its script, and what its policy forbade.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let entries = self.post("se/log", &json!({ "type": "browser" }))?;
        let entries = entries.as_array().context("no log")?.iter();
        Ok(entries.filter(|entry| entry["level"] == "SEVERE").map(Value::to_string).collect())
    }

    fn element(&self, using: &str, value: &str) -> Result<String> {
        let found = self.post("element", &json!({ "using": using, "value": value }))?;
        Ok(found[ELEMENT].as_str().with_context(|| format!("no element: {found}"))?.to_owned())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        call(&self.http, Method::POST, &format!("{}/{path}", self.session), Some(body))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with its session; it is itself ended after this.
        let _ended = self.http.delete(&self.session).send();
    }
}

fn call(http: &Client, method: Method, url: &str, body: Option<&Value>) -> Result<Value> {
    let mut request = http.request(method, url);
    if let Some(body) = body {
        request = request.json(body);
    }
    let reply: Value = request.send()?.json()?;
    let value = reply.get("value").with_context(|| format!("no reply of WebDriver: {reply}"))?;
    if let Some(error) = value.get("error").filter(|error| error.is_string()) {
        bail!("{url}: {error}: {}", value["message"]);
    }
    Ok(value.clone())
}
