//! A server that needs a key: the dialog that asks for it, and what there is without one.

use dfml_serve::access::{KeySource, KeyStore, NewKey};
use dfml_tests::{browser::Browser, pictures, server::Running, shop::Shop};
use serde_json::json;

use super::{ANSWERED, DROP, FAILED, FIRST, console_besides, file, open_with, problem};

const CANCEL: &str = r##"document.querySelector("#key-dialog button[type=button]").click()"##;
/// The dialog is open and empty.
const ASKED: &str = r##"
const dialog = document.getElementById("key-dialog");
return Boolean(dialog?.open) && document.activeElement.id === "key" && document.getElementById("key").value === "";
"##;
/// The dialog is open and calls the key not valid.
const REFUSED: &str = r##"
return document.getElementById("key-dialog").open && !document.getElementById("key-wrong").hidden;
"##;
/// There is no dialog, and the head has a way to one.
const LOCKED: &str = r##"
return !document.getElementById("key-dialog").open && document.getElementById("server-key") !== null
    && document.getElementById("server-text").textContent === "a key is needed";
"##;
/// The head has nothing to ask for.
const READY: &str = r##"
return document.getElementById("server").dataset.state === "ready" && document.getElementById("server-key") === null;
"##;

async fn locked(path: &str) -> (Shop, Running, Browser, NewKey) {
    let key = NewKey::generate();
    let variable = Some(format!("visitor:read:{}", key.digest));
    let keys = KeyStore::open(KeySource { file: None, variable }).expect("a well-formed key");
    let (shop, running, browser) = open_with(path, |options| options.keys = keys).await;
    browser.wait_until("the dialog", ASKED).await;
    (shop, running, browser, key)
}

/// Types a text where the focus is and presses Enter.
async fn enter(browser: &Browser, text: &str) {
    browser.devtools("Input.insertText", json!({ "text": text })).await;
    for (kind, text) in [("keyDown", "\r"), ("keyUp", "")] {
        let event = json!({ "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": text });
        browser.devtools("Input.dispatchKeyEvent", event).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_enter_open_every_page() {
    let (_shop, running, browser, key) = locked("/catalogue").await;
    // No header can carry this one.
    enter(&browser, "schlüssel").await;
    browser.wait_until("that this is no key", REFUSED).await;
    // The text is selected: the next one takes its place.
    enter(&browser, "dfml_wrong").await;
    browser.wait_until("the dialog again", ASKED).await;
    browser.wait_until("that the key is not valid", REFUSED).await;

    enter(&browser, &key.secret).await;
    // With a key the pictures are fetched by the script.
    let shown = r##"
        const pictures = [...document.querySelectorAll("#cards img")];
        return pictures.length === 12 && pictures[0].naturalWidth > 0 && pictures[0].src.startsWith("blob:");"##;
    browser.wait_until("the catalogue", shown).await;
    browser.wait_until("the head", READY).await;

    browser.client.goto(&running.url("/")).await.expect("the page loads");
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(6, 0))).await;
    browser.wait_until("the results", ANSWERED).await;
    assert_eq!(browser.run(FIRST, Vec::new()).await["product"], "6");
    let dialog = browser.run(r##"return document.getElementById("key-dialog")"##, Vec::new()).await;
    assert!(dialog.is_null(), "the key is known in this tab");
    assert_eq!(console_besides(&browser, 401).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cancels_is_asked_no_more_and_can_still_give_the_key() {
    let (_shop, _running, browser, key) = locked("/").await;
    browser.run(CANCEL, Vec::new()).await;
    browser.wait_until("the way back to the dialog", LOCKED).await;

    // A search is refused, and does not open the dialog either.
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(3, 0))).await;
    browser.wait_until("the problem", FAILED).await;
    let said = problem(&browser).await;
    assert!(said.contains("A valid API key is needed"), "{said}");
    browser.wait_until("no dialog", LOCKED).await;

    let open = r##"document.getElementById("server-key").click()"##;
    browser.run(open, Vec::new()).await;
    browser.wait_until("the dialog", ASKED).await;
    browser.run(CANCEL, Vec::new()).await;
    browser.wait_until("no dialog again", LOCKED).await;
    // Once more, and again if the dialog had not yet told that it was closed: no hand is that quick.
    browser.wait_until("the dialog once more", &format!("{open};{ASKED}")).await;

    // What waited for the key goes on by itself: the search and the head.
    enter(&browser, &key.secret).await;
    browser.wait_until("the results", ANSWERED).await;
    assert_eq!(browser.run(FIRST, Vec::new()).await["product"], "3");
    browser.wait_until("the head", READY).await;
    assert_eq!(console_besides(&browser, 401).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_waits_for_the_key() {
    let (_shop, _running, browser, key) = locked("/status").await;
    browser.run(CANCEL, Vec::new()).await;
    browser.wait_until("the way back to the dialog", LOCKED).await;
    let says = |text: &str| format!(r##"return document.getElementById("verdict").innerText === "{text}""##);
    browser.wait_until("what is missing", &says("A valid API key is needed")).await;
    browser.run(r##"document.getElementById("server-key").click()"##, Vec::new()).await;
    browser.wait_until("the dialog", ASKED).await;
    enter(&browser, &key.secret).await;
    browser.wait_until("the verdict", &says("All is well")).await;
    assert_eq!(console_besides(&browser, 401).await, Vec::<String>::new());
}
