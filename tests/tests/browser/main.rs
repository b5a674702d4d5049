//! The web pages in a real browser.
//!
//! - `searching`: drop or paste a picture, see the right product; narrow down, go on from a result, come back.
//! - `picture`: pictures that are refused, made smaller, cut.
//! - `catalogue`: the catalogue's page and the server's state.
//! - `keys`: a server that needs a key.

mod catalogue;
mod keys;
mod picture;
mod searching;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dfml_serve::http::HttpOptions;
use dfml_tests::{
    browser::Browser,
    server::{self, Running},
    shop::Shop,
};
use serde_json::{Value, json};

/// Drops a file on the page as a visitor would: a drop event that carries a real `File`.
const DROP: &str = r##"
const [name, type, base64] = arguments;
const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], name, { type }));
const event = (kind) => new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: carried });
const target = document.getElementById("drop");
target.dispatchEvent(event("dragenter"));
target.dispatchEvent(event("dragover"));
target.dispatchEvent(event("drop"));
"##;
/// All cards are there with their pictures loaded (those in view at least).
const ANSWERED: &str = r##"
const pictures = [...document.querySelectorAll("#cards .card:not(.waiting) img")];
return document.body.dataset.state === "answered" && pictures.length > 0 && pictures[0].complete
    && pictures[0].naturalWidth > 0;
"##;
const FAILED: &str = r##"return document.body.dataset.state === "failed""##;
const FIRST: &str = r##"
const card = document.querySelector("#cards .card");
const text = (selector) => card.querySelector(selector).innerText;
return {
    product: card.dataset.product, name: text(".name"), category: text(".category"), score: text(".score"),
    licence: text(".licence"), cards: document.querySelectorAll("#cards .card").length,
    preview: document.getElementById("preview").naturalWidth, timings: document.getElementById("timings-total").innerText,
};
"##;

/// A shop, its server and a browser at the page that searches.
async fn page() -> (Shop, Running, Browser) {
    open("/").await
}

/// The same at another page.
async fn open(path: &str) -> (Shop, Running, Browser) {
    open_with(path, |_| {}).await
}

/// The same with a server that is set up otherwise.
async fn open_with(path: &str, change: impl FnOnce(&mut HttpOptions)) -> (Shop, Running, Browser) {
    let shop = Shop::open();
    let mut options = server::options(&shop);
    change(&mut options);
    let running = Running::start(server::ready(&shop, options));
    let browser = Browser::start().await;
    browser.client.goto(&running.url(path)).await.expect("the page loads");
    (shop, running, browser)
}

/// A file as the arguments of [`DROP`].
fn file(name: &str, kind: &str, bytes: &[u8]) -> Vec<Value> {
    vec![json!(name), json!(kind), json!(BASE64_STANDARD.encode(bytes))]
}

/// What the problem says.
async fn problem(browser: &Browser) -> String {
    browser.run(r##"return document.getElementById("problem").innerText"##, Vec::new()).await.to_string()
}

/// Whether the problem offers to try again.
async fn offers_to_try_again(browser: &Browser) -> Value {
    browser.run(r##"return !document.getElementById("retry").hidden"##, Vec::new()).await
}

/// What the console has to say besides answers of this status: Chromium itself writes those there.
async fn console_besides(browser: &Browser, status: u16) -> Vec<String> {
    let expected = format!("the server responded with a status of {status}");
    let mut messages = browser.console().await;
    messages.retain(|message| !message.contains(&expected));
    messages
}

/// Keeps a picture of the page in the folder named by `TEST_SCREENSHOTS`, if that is set: for looking at.
async fn screenshot(browser: &Browser, name: &str) {
    let image = browser.client.screenshot().await.expect("a screenshot");
    assert!(image.starts_with(b"\x89PNG"), "a screenshot is a PNG file");
    if let Some(folder) = std::env::var_os("TEST_SCREENSHOTS") {
        fs_err::create_dir_all(&folder).expect("create folder");
        fs_err::write(std::path::Path::new(&folder).join(name), image).expect("write screenshot");
    }
}
