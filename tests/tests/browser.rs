//! The web page in a real browser: drop a picture, see the right product.

use base64::{Engine as _, prelude::BASE64_STANDARD};
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

/// Two products side by side, as PNG: exact pixels, so that each half alone is its product.
fn side_by_side(left: u64, right: u64) -> Vec<u8> {
    let (left, right) = (pictures::view(left, 0), pictures::view(right, 0));
    let mut both = image::RgbImage::new(left.width() + right.width(), left.height());
    image::imageops::replace(&mut both, &left, 0, 0);
    image::imageops::replace(&mut both, &right, i64::from(left.width()), 0);
    let mut bytes = std::io::Cursor::new(Vec::new());
    both.write_to(&mut bytes, image::ImageFormat::Png).expect("encoding into memory");
    bytes.into_inner()
}

/// Draws from one point of the window to another with the mouse.
async fn draw(browser: &Browser, from: (f64, f64), to: (f64, f64)) {
    let steps = [
        ("mousePressed", from),
        ("mouseMoved", ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0)),
        ("mouseMoved", to),
        ("mouseReleased", to),
    ];
    for (kind, (x, y)) in steps {
        let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1 });
        browser.devtools("Input.dispatchMouseEvent", event).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_picture_is_searched_with() {
    let (_shop, _running, browser) = page().await;
    browser.run(DROP, file("both.png", "image/png", &side_by_side(2, 9))).await;
    browser.wait_until("the results", ANSWERED).await;

    let place = r##"
        const image = document.getElementById("preview");
        image.scrollIntoView();
        const frame = image.getBoundingClientRect();
        const scale = Math.min(frame.width / image.naturalWidth, frame.height / image.naturalHeight);
        const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
        return [frame.left + (frame.width - width) / 2, frame.top + (frame.height - height) / 2, width, height];"##;
    let place: Vec<f64> = serde_json::from_value(browser.run(place, Vec::new()).await).expect("four numbers");
    let [left, top, width, height] = place[..] else { panic!("four numbers: {place:?}") };
    for (half, product) in [(0.5, "9"), (0.0, "2")] {
        let from = left + half * width;
        draw(&browser, (from + 1.0, top + 1.0), (from + width / 2.0 - 1.0, top + height - 1.0)).await;
        let found = format!(
            r##"return document.body.dataset.state === "answered" && document.querySelector("#cards .card").dataset.product === "{product}""##
        );
        browser.wait_until("the product inside the box", &found).await;
    }
    screenshot(&browser, "crop.png").await;
    let label = browser.run(r##"return document.getElementById("crop-box").ariaLabel"##, Vec::new()).await;
    assert!(label.as_str().is_some_and(|text| text.contains("% wide")), "{label}");

    browser.run(r##"document.getElementById("whole").click()"##, Vec::new()).await;
    browser.wait_until("no box", r##"return document.getElementById("crop-box").hidden"##).await;
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_leads_to_a_search() {
    let (_shop, _running, browser) = open("/catalogue").await;
    browser.emulate(390, 844, "light").await;
    browser
        .wait_until("every product", r##"return document.querySelectorAll("#cards .card").length === 12"##)
        .await;
    screenshot(&browser, "catalogue-390.png").await;
    browser
        .run(r##"document.querySelector('#cards .card[data-product="4"] .open').click()"##, Vec::new())
        .await;
    browser
        .wait_until(
            "its pictures",
            r##"return document.querySelectorAll("#product-items .card").length === 3"##,
        )
        .await;
    browser.run(r##"document.querySelector("#product-items .more").click()"##, Vec::new()).await;
    browser.wait_until("the results", ANSWERED).await;
    assert_eq!(browser.run(FIRST, Vec::new()).await["product"], "4");
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_says_how_the_server_is() {
    let (_shop, running, browser) = open("/status").await;
    let says = |text: &str| format!(r##"return document.getElementById("verdict").innerText === "{text}""##);
    browser.wait_until("the verdict", &says("All is well")).await;
    let index = browser.run(r##"return document.getElementById("index").innerText"##, Vec::new()).await;
    assert!(index.as_str().is_some_and(|text| text.contains("12") && text.contains("36")), "{index}");
    screenshot(&browser, "status.png").await;
    running.stop();
    browser.wait_until("the bad news", r##"return document.body.dataset.status === "down""##).await;
}
