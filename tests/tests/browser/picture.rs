//! Pictures of the visitor's: what is said of those that are none, how large ones are sent, parts of them.

use std::io::Cursor;

use dfml_tests::{browser::Browser, pictures};
use image::{ImageFormat, RgbImage, imageops};
use serde_json::json;

use super::{ANSWERED, DROP, FAILED, FIRST, file, offers_to_try_again, page, problem, screenshot};

/// Drops a link, which is what the pictures of another page are to the browser.
const DROP_LINK: &str = r##"
const carried = new DataTransfer();
carried.setData("text/uri-list", "https://shop.example/chair.jpg");
const event = (kind) => new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: carried });
for (const kind of ["dragenter", "dragover", "drop"]) document.getElementById("drop").dispatchEvent(event(kind));
"##;

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("encoding into memory");
    bytes.into_inner()
}

/// A script that returns whether the problem has this title.
fn says(title: &str) -> String {
    format!(
        r##"return document.body.dataset.state === "failed"
            && document.getElementById("problem-title").textContent === "{title}""##
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_said_and_can_be_got_over() {
    let (_shop, running, browser) = page().await;
    browser.run(DROP, file("list.jpg", "image/jpeg", b"a shopping list")).await;
    browser.wait_until("the problem", FAILED).await;
    let said = problem(&browser).await;
    assert!(said.contains("The file is not an image") && said.contains("not_an_image"), "{said}");
    assert_eq!(offers_to_try_again(&browser).await, false, "it would be none the next time either");
    screenshot(&browser, "problem.png").await;

    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(2, 0))).await;
    browser.wait_until("the results", ANSWERED).await;
    assert_eq!(browser.run(FIRST, Vec::new()).await["product"], "2");

    running.stop();
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(3, 0))).await;
    browser.wait_until("the problem", FAILED).await;
    let said = problem(&browser).await;
    assert!(said.contains("The server cannot be reached"), "{said}");
    assert_eq!(offers_to_try_again(&browser).await, true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_picture_is_refused_by_the_page_itself() {
    let (_shop, _running, browser) = page().await;
    browser.run(DROP, file("empty.jpg", "image/jpeg", b"")).await;
    browser.wait_until("what is said of an empty file", &says("The file cannot be read")).await;
    assert_eq!(offers_to_try_again(&browser).await, false);

    browser.run(DROP_LINK, Vec::new()).await;
    browser.wait_until("what is said of a link", &says("That is not a picture file")).await;
    assert_eq!(offers_to_try_again(&browser).await, false);

    // Larger than the server takes, and nothing that the browser could make smaller.
    browser.run(DROP, file("noise.jpg", "image/jpeg", &[7; 300 << 10])).await;
    browser.wait_until("what is said of a large file", &says("The picture is too large")).await;
    let said = problem(&browser).await;
    assert!(said.contains("0.25 MiB"), "{said}");
    assert_eq!(offers_to_try_again(&browser).await, false);
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_is_too_large_is_made_smaller_and_found() {
    let (_shop, running, browser) = page().await;
    let view = pictures::view(4, 0);
    let (width, height) = (view.width() * 5, view.height() * 5);
    let large = imageops::resize(&view, width, height, imageops::FilterType::Triangle);
    let bytes = encoded(&large, ImageFormat::Bmp);
    let limits = dfml_tests::client::fetch(running.url("/v1/info")).await.expect("an answer");
    let limits: serde_json::Value = limits.json().await.expect("JSON");
    let bytes_max = limits["limits"]["body_bytes_max"].as_u64().expect("a limit");
    assert!(bytes.len() as u64 > bytes_max, "{} bytes", bytes.len());
    browser.run(DROP, file("large.bmp", "image/bmp", &bytes)).await;
    browser.wait_until("the results", ANSWERED).await;
    let first = browser.run(FIRST, Vec::new()).await;
    assert_eq!(first["product"], "4", "{first}");
    assert_eq!(first["preview"], width, "the visitor sees the picture as it is");
    assert_eq!(browser.console().await, Vec::<String>::new());
}

/// Two products side by side, as PNG: exact pixels, so that each half alone is its product.
fn side_by_side(left: u64, right: u64) -> Vec<u8> {
    let (left, right) = (pictures::view(left, 0), pictures::view(right, 0));
    let mut both = RgbImage::new(left.width() + right.width(), left.height());
    imageops::replace(&mut both, &left, 0, 0);
    imageops::replace(&mut both, &right, i64::from(left.width()), 0);
    encoded(&both, ImageFormat::Png)
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
async fn a_part_of_the_next_picture_is_searched_with_as_well() {
    let (_shop, _running, browser) = page().await;
    let searches = |count: usize| {
        format!(
            r##"
            const searches = performance.getEntriesByType("resource").filter(({{ name }}) => name.endsWith("/v1/search"));
            return searches.length === {count} && document.body.dataset.state === "answered";"##
        )
    };
    for (number, product) in [2, 9].into_iter().enumerate() {
        browser.run(DROP, file("query.png", "image/png", &pictures::png(product, 0))).await;
        browser.wait_until("the search with the whole", &searches(2 * number + 1)).await;
        let hidden = r##"return document.getElementById("crop-box").hidden"##;
        assert_eq!(browser.run(hidden, Vec::new()).await, true, "another picture has no box yet");
        browser.run(r##"document.getElementById("part").click()"##, Vec::new()).await;
        browser.wait_until("the search with the part", &searches(2 * number + 2)).await;
        assert_eq!(browser.run(hidden, Vec::new()).await, false);
    }
    // The way out leaves the focus where the keys can go on.
    let whole = r##"const whole = document.getElementById("whole"); whole.focus(); whole.click();"##;
    browser.run(whole, Vec::new()).await;
    browser.wait_until("the search with the whole again", &searches(5)).await;
    assert_eq!(browser.run("return document.activeElement.id", Vec::new()).await, "part");
    assert_eq!(browser.console().await, Vec::<String>::new());
}
