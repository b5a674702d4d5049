//! The web page in a real browser: drop a picture, see the right product.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dfml_serve::{
    access::{KeySource, KeyStore, NewKey},
    http::HttpOptions,
};
use dfml_tests::{
    browser::Browser,
    pictures,
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
const PASTE: &str = r##"
const [name, type, base64] = arguments;
const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], name, { type }));
document.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, clipboardData: carried }));
"##;
/// All cards are there with their pictures loaded (those in view at least).
const ANSWERED: &str = r##"
const pictures = [...document.querySelectorAll("#cards .card:not(.waiting) img")];
return document.body.dataset.state === "answered" && pictures.length > 0 && pictures[0].complete
    && pictures[0].naturalWidth > 0;
"##;
const READY: &str = r##"return document.getElementById("server").dataset.state === "ready""##;
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

/// Drags over the picture as a mouse does, from one place to another, in shares of its frame.
const DRAG: &str = r##"
const [x0, y0, x1, y1] = arguments;
const area = document.getElementById("crop");
const frame = document.getElementById("preview").getBoundingClientRect();
const image = document.getElementById("preview");
const scale = Math.min(frame.width / image.naturalWidth, frame.height / image.naturalHeight);
const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
const [left, top] = [frame.left + (frame.width - width) / 2, frame.top + (frame.height - height) / 2];
area.setPointerCapture = () => {};
const event = (kind, x, y) => new PointerEvent(kind, {
    bubbles: true, isPrimary: true, button: 0, pointerId: 1, clientX: left + x * width, clientY: top + y * height,
});
area.dispatchEvent(event("pointerdown", x0, y0));
area.dispatchEvent(event("pointermove", x1, y1));
area.dispatchEvent(event("pointerup", x1, y1));
"##;
/// What screen readers and keyboards need: names for everything that can be used, text for pictures, one first heading.
const ACCESSIBLE: &str = r##"
const wrong = [];
const shown = (element) => element.checkVisibility?.() ?? true;
for (const element of document.querySelectorAll("button, a[href], input, select, [role=application], meter")) {
    if (!shown(element)) continue;
    const label = element.labels?.[0]?.innerText ?? "";
    const name = element.ariaLabel || element.innerText || label || element.title || element.placeholder;
    if (!name?.trim()) wrong.push(`no name: ${element.outerHTML}`);
}
for (const image of document.querySelectorAll("img")) {
    if (!image.hasAttribute("alt")) wrong.push(`no alt: ${image.outerHTML}`);
}
if ([...document.querySelectorAll("h1")].length !== 1) wrong.push("not one first heading");
if (!document.documentElement.lang) wrong.push("no language");
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
if (new Set(ids).size !== ids.length) wrong.push("an id comes twice");
return wrong;
"##;

async fn page() -> (Shop, Running, Browser) {
    open("/").await
}

async fn open(path: &str) -> (Shop, Running, Browser) {
    let shop = Shop::open();
    let running = Running::start(server::ready(&shop, server::options(&shop)));
    let browser = Browser::start().await;
    browser.client.goto(&running.url(path)).await.expect("the page loads");
    (shop, running, browser)
}

async fn text(browser: &Browser, id: &str) -> String {
    let script = format!("return document.getElementById({id:?}).innerText");
    browser.run(&script, Vec::new()).await.as_str().unwrap_or_default().to_owned()
}

async fn assert_accessible(browser: &Browser) {
    assert_eq!(browser.run(ACCESSIBLE, Vec::new()).await, json!([]));
}

fn file(name: &str, kind: &str, bytes: &[u8]) -> Vec<Value> {
    vec![json!(name), json!(kind), json!(BASE64_STANDARD.encode(bytes))]
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

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_picture_finds_its_product() {
    let (_shop, _running, browser) = page().await;
    browser
        .wait_until(
            "the server's state",
            r##"return document.getElementById("server").dataset.state === "ready""##,
        )
        .await;
    screenshot(&browser, "empty-light.png").await;
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(4, 0))).await;
    browser.wait_until("the results", ANSWERED).await;
    let first = browser.run(FIRST, Vec::new()).await;
    assert_eq!(first["product"], "4", "{first}");
    assert_eq!(first["name"], "cross no. 4");
    assert_eq!(first["category"], "Round & even");
    assert_eq!(first["licence"], "by Ada Example · CC-BY 4.0");
    assert_eq!(first["score"], "100.0 %");
    assert_eq!(first["cards"], 12);
    assert_eq!(first["preview"], 112, "the visitor sees the picture that was asked for");
    assert!(first["timings"].as_str().is_some_and(|text| text.contains("ms on the server")), "{first}");
    for (width, height, scheme) in
        [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark")]
    {
        browser.emulate(width, height, scheme).await;
        browser.wait_until("the results after a change of screen", ANSWERED).await;
        let overflow =
            browser.run("return document.documentElement.scrollWidth - innerWidth", Vec::new()).await;
        assert!(
            overflow.as_i64().is_some_and(|pixels| pixels <= 0),
            "{width} px wide, the page is {overflow} px wider"
        );
        screenshot(&browser, &format!("results-{width}-{scheme}.png")).await;
    }
    assert_accessible(&browser).await;
    assert_eq!(browser.console().await, Vec::<String>::new(), "no errors, no broken content policy");
}

#[tokio::test(flavor = "multi_thread")]
async fn paste_filter_and_more_like_this() {
    let (_shop, _running, browser) = page().await;
    browser
        .wait_until("the categories", r##"return document.getElementById("category").options.length === 3"##)
        .await;
    browser.run(PASTE, file("pasted.png", "image/png", &pictures::png(7, 0))).await;
    browser.wait_until("the results", ANSWERED).await;
    assert_eq!(browser.run(FIRST, Vec::new()).await["product"], "7");

    let choose = r##"
        const select = document.getElementById("category");
        select.value = "Round & even";
        select.dispatchEvent(new Event("change"));"##;
    browser.run(choose, Vec::new()).await;
    browser
        .wait_until("six cards", r##"return document.querySelectorAll("#cards .card").length === 6"##)
        .await;
    let categories = r##"return [...document.querySelectorAll("#cards .category")].every((c) => c.innerText === "Round & even")"##;
    assert_eq!(browser.run(categories, Vec::new()).await, true);

    let other = browser
        .run(r##"return document.querySelectorAll("#cards .card")[2].dataset.product"##, Vec::new())
        .await;
    browser.run(r##"document.querySelectorAll("#cards .more")[2].click()"##, Vec::new()).await;
    let first_is_other =
        format!(r##"return document.querySelector("#cards .card").dataset.product === {other}"##);
    browser.wait_until("the product that was asked for on top", &first_is_other).await;
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_said_and_can_be_got_over() {
    let (_shop, running, browser) = page().await;
    let shown = async || {
        browser.run(r##"return document.getElementById("problem").innerText"##, Vec::new()).await.to_string()
    };
    browser.run(DROP, file("list.jpg", "image/jpeg", b"a shopping list")).await;
    browser.wait_until("the problem", FAILED).await;
    let problem = shown().await;
    assert!(problem.contains("The file is not an image") && problem.contains("not_an_image"), "{problem}");
    screenshot(&browser, "problem.png").await;

    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(2, 0))).await;
    browser.wait_until("the results", ANSWERED).await;
    assert_eq!(browser.run(FIRST, Vec::new()).await["product"], "2");

    running.stop();
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(3, 0))).await;
    browser.wait_until("the problem", FAILED).await;
    let problem = shown().await;
    assert!(problem.contains("The server cannot be reached"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_on_the_picture_searches_with_that_part() {
    let (_shop, _running, browser) = page().await;
    browser.wait_until("the server", READY).await;
    // Two products side by side: the left half shows 2, the right half 7.
    let (left, right) = (pictures::view(2, 0), pictures::view(7, 0));
    let mut both = image::RgbImage::new(left.width() * 2, left.height());
    image::imageops::replace(&mut both, &left, 0, 0);
    image::imageops::replace(&mut both, &right, i64::from(left.width()), 0);
    let mut png = std::io::Cursor::new(Vec::new());
    both.write_to(&mut png, image::ImageFormat::Png).expect("into memory");
    browser.run(DROP, file("both.png", "image/png", &png.into_inner())).await;
    browser.wait_until("the results", ANSWERED).await;
    let first_is = |product: &str| {
        format!(r##"return document.querySelector("#cards .card")?.dataset.product === {product:?}"##)
    };
    browser.run(DRAG, vec![json!(0.5), json!(0.0), json!(1.0), json!(1.0)]).await;
    browser.wait_until("the product in the right half", &first_is("7")).await;
    screenshot(&browser, "crop.png").await;
    browser.run(DRAG, vec![json!(0.0), json!(0.0), json!(0.5), json!(1.0)]).await;
    browser.wait_until("the product in the left half", &first_is("2")).await;
    assert_accessible(&browser).await;
    // With the keyboard: the box is moved to the right.
    let press = r##"const box = document.getElementById("crop-box");
        for (let i = 0; i < 25; i++) box.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));"##;
    browser.run(press, Vec::new()).await;
    browser.wait_until("the product in the right half again", &first_is("7")).await;
    browser.run(r##"document.getElementById("whole").click()"##, Vec::new()).await;
    browser.wait_until("no box", r##"return document.getElementById("crop-box").hidden"##).await;
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn less_like_this_and_least_similarity_narrow_the_results() {
    let (_shop, _running, browser) = page().await;
    browser.wait_until("the server", READY).await;
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(4, 0))).await;
    browser.wait_until("the results", ANSWERED).await;
    let order = r##"return [...document.querySelectorAll("#cards .card:not(.waiting)")].map((card) => card.dataset.product)"##;
    let before = browser.run(order, Vec::new()).await;
    let disliked = before[1].as_str().expect("a second product").to_owned();
    browser.run(r##"document.querySelectorAll("#cards .less")[1].click()"##, Vec::new()).await;
    browser
        .wait_until(
            "the counter-example",
            r##"return document.querySelectorAll("#unlike-list li").length === 1"##,
        )
        .await;
    let moved = format!(
        r##"return document.body.dataset.state === "answered" && [...document.querySelectorAll("#cards .card")].findIndex((card) => card.dataset.product === {disliked:?}) !== 1"##
    );
    browser.wait_until("another second product", &moved).await;
    assert_accessible(&browser).await;
    screenshot(&browser, "less-like.png").await;
    browser.run(r##"document.querySelector("#unlike-list button").click()"##, Vec::new()).await;
    browser.wait_until("the first results again", &format!(r##"return JSON.stringify([...document.querySelectorAll("#cards .card")].map((card) => card.dataset.product)) === {:?} && document.body.dataset.state === "answered""##, before.to_string())).await;

    let least = r##"const least = document.getElementById("least");
        least.value = "95";
        least.dispatchEvent(new Event("input"));
        least.dispatchEvent(new Event("change"));"##;
    browser.run(least, Vec::new()).await;
    browser.wait_until("only what is as good as the same", r##"return document.body.dataset.state === "answered" && document.querySelectorAll("#cards .card").length < 12"##).await;
    assert_eq!(text(&browser, "least-text").await, "at least 95 % similar");
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_is_browsed_and_searched_from() {
    let (_shop, _running, browser) = open("/catalogue").await;
    let count = r##"return document.querySelectorAll("#cards .card img").length === 12"##;
    browser.wait_until("the products", count).await;
    assert_eq!(text(&browser, "count").await, "12 products, 36 pictures");
    assert_accessible(&browser).await;
    for (width, height, scheme) in [(1280, 900, "light"), (390, 844, "dark")] {
        browser.emulate(width, height, scheme).await;
        screenshot(&browser, &format!("catalogue-{width}-{scheme}.png")).await;
    }
    browser
        .run(r##"document.querySelector("#cards .card[data-product='5'] .open").click()"##, Vec::new())
        .await;
    browser
        .wait_until(
            "its pictures",
            r##"return document.querySelectorAll("#product-items .card").length === 3"##,
        )
        .await;
    assert!(text(&browser, "product-facts").await.contains("Odd ones"));
    screenshot(&browser, "product.png").await;
    browser.run(r##"document.querySelector("#product-items a").click()"##, Vec::new()).await;
    browser.wait_until("the search from it", ANSWERED).await;
    assert_eq!(browser.run(FIRST, Vec::new()).await["product"], "5");
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_is_live_and_says_when_something_is_wrong() {
    let (shop, running, browser) = open("/status").await;
    let status = |wanted: &str| format!(r##"return document.body.dataset.status === {wanted:?}"##);
    browser.wait_until("all well", &status("ok")).await;
    assert_eq!(text(&browser, "verdict").await, "All is well");
    assert!(text(&browser, "index").await.contains("36"));
    assert_accessible(&browser).await;
    for (width, height, scheme) in [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light")] {
        browser.emulate(width, height, scheme).await;
        screenshot(&browser, &format!("status-{width}-{scheme}.png")).await;
        let wider = browser.run("return document.documentElement.scrollWidth - innerWidth", Vec::new()).await;
        assert!(wider.as_i64().is_some_and(|pixels| pixels <= 0), "{width}: {wider}");
    }
    // An empty catalogue is something to be told of.
    let everything: Vec<String> = (0..12u64).map(|class| class.to_string()).collect();
    let body = json!({ "ids": everything }).to_string();
    let remove = r##"return fetch("/v1/products", { method: "DELETE", headers: { "content-type": "application/json" }, body: arguments[0] }).then((answer) => answer.status)"##;
    assert_eq!(browser.run(remove, vec![json!(body)]).await, 200);
    browser.wait_until("the trouble", &status("degraded")).await;
    assert!(text(&browser, "problems").await.contains("the catalogue is empty"));
    running.stop();
    browser.wait_until("the end of the server", &status("down")).await;
    drop(shop);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_asked_for_and_kept_for_the_tab() {
    let (shop, folder) = (Shop::open(), tempfile::tempdir().expect("temporary folder"));
    let key = NewKey::generate();
    let entry = format!("[[key]]\nname = \"page\"\nscope = \"read\"\ndigest = \"{}\"\n", key.digest);
    fs_err::write(folder.path().join("keys.toml"), entry).expect("write");
    let source = KeySource { file: Some(folder.path().join("keys.toml")), variable: None };
    let options =
        HttpOptions { keys: KeyStore::open(source).expect("well-formed"), ..server::options(&shop) };
    let running = Running::start(server::ready(&shop, options));
    let browser = Browser::start().await;
    browser.client.goto(&running.url("/")).await.expect("the page loads");
    let asked = r##"return document.getElementById("key-dialog").open"##;
    let enter = r##"document.getElementById("key").value = arguments[0]; document.querySelector("#key-dialog .strong").click();"##;
    browser.wait_until("the question for a key", asked).await;
    screenshot(&browser, "key.png").await;
    browser.run(enter, vec![json!("dfml_wrong")]).await;
    browser.wait_until("the question again", r##"return document.getElementById("key-dialog").open && !document.getElementById("key-wrong").hidden"##).await;
    browser.run(enter, vec![json!(key.secret)]).await;
    browser.wait_until("the server's state", READY).await;
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(4, 0))).await;
    // The pictures of the results need the key, too.
    browser.wait_until("the results with their pictures", ANSWERED).await;
    assert_eq!(browser.run(FIRST, Vec::new()).await["product"], "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_of_the_api_is_shown_and_breaks_no_policy() {
    let (_shop, _running, browser) = open("/docs/").await;
    browser
        .wait_until("the operations", r##"return document.querySelectorAll(".opblock").length >= 28"##)
        .await;
    screenshot(&browser, "docs.png").await;
    assert_eq!(browser.console().await, Vec::<String>::new());
}
