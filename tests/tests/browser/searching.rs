//! From a picture to products, and on from there.

use dfml_tests::pictures;
use serde_json::json;

use super::{ANSWERED, DROP, FIRST, file, open_with, page, screenshot};

const PASTE: &str = r##"
const [name, type, base64] = arguments;
const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const carried = new DataTransfer();
carried.items.add(new File([bytes], name, { type }));
document.dispatchEvent(new ClipboardEvent("paste", { bubbles: true, clipboardData: carried }));
"##;

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
async fn back_brings_the_earlier_results_back() {
    let (_shop, _running, browser) = page().await;
    browser.run(DROP, file("query.png", "image/png", &pictures::png(7, 0))).await;
    browser.wait_until("the results", ANSWERED).await;
    let shows = |product: &str, search: &str| {
        format!(
            r##"return document.body.dataset.state === "answered"
                && document.querySelector("#cards .card").dataset.product === "{product}"
                && location.search.startsWith("{search}") && Boolean(location.search) === Boolean("{search}")"##
        )
    };
    browser.wait_until("an address without the picture", &shows("7", "")).await;

    let other = browser
        .run(r##"return document.querySelectorAll("#cards .card")[2].dataset.product"##, Vec::new())
        .await;
    let other = shows(other.as_str().expect("a product"), "?item=");
    browser.run(r##"document.querySelectorAll("#cards .more")[2].click()"##, Vec::new()).await;
    browser.wait_until("the product that was asked for on top", &other).await;
    let cut = r##"return document.getElementById("cut").hidden"##;
    assert_eq!(browser.run(cut, Vec::new()).await, true, "a stored picture is searched with as a whole");

    browser.run("history.back()", Vec::new()).await;
    browser.wait_until("the earlier results", &shows("7", "")).await;
    assert_eq!(browser.run(cut, Vec::new()).await, false, "the visitor's picture again");
    browser
        .wait_until(
            "the earlier picture",
            r##"return document.getElementById("preview").naturalWidth === 112"##,
        )
        .await;
    browser.run("history.forward()", Vec::new()).await;
    browser.wait_until("the later results", &other).await;

    // The page's beginning, before there was a picture.
    browser.run("history.go(-2)", Vec::new()).await;
    browser
        .wait_until(
            "the empty page",
            r##"return document.body.dataset.state === "empty" && location.search === """##,
        )
        .await;
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_focus_goes_on_from_the_answer() {
    let (_shop, _running, browser) = page().await;
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(5, 0))).await;
    browser.wait_until("the results", ANSWERED).await;
    let examples = |count: usize| {
        format!(
            r##"return document.body.dataset.state === "answered"
                && document.querySelectorAll("#unlike-list li").length === {count}"##
        )
    };
    for (pressed, count) in [("#cards .card:nth-child(3) .less", 1), ("#unlike-list button", 0)] {
        let press = format!(
            r##"const button = document.querySelector("{pressed}"); button.focus(); button.click();"##
        );
        browser.run(&press, Vec::new()).await;
        browser.wait_until("the answer", &examples(count)).await;
        let focused = browser.run("return document.activeElement.id", Vec::new()).await;
        assert_eq!(focused, "results", "after {pressed}");
    }
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_phone_the_answer_comes_into_view() {
    let (_shop, _running, browser) = page().await;
    browser.emulate(390, 844, "light").await;
    let calm = json!({ "features": [{ "name": "prefers-reduced-motion", "value": "reduce" }] });
    browser.devtools("Emulation.setEmulatedMedia", calm).await;
    let in_view = r##"
        const { top } = document.getElementById("results").getBoundingClientRect();
        return document.body.dataset.state === "answered" && top >= 0 && top < innerHeight / 2;"##;
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(8, 0))).await;
    browser.wait_until("the results in view", in_view).await;
    let further = r##"
        scrollTo(0, document.body.scrollHeight);
        [...document.querySelectorAll("#cards .more")].at(-1).click();"##;
    browser.run(further, Vec::new()).await;
    browser.wait_until("the new results in view", in_view).await;
    assert_eq!(browser.console().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_results_than_the_server_gives_can_be_chosen() {
    let (_shop, _running, browser) = open_with("/", |options| options.k_max = 7).await;
    let choices = r##"
        const { value, options } = document.getElementById("k");
        return value === "6" && [...options].filter(({ disabled }) => !disabled).length === 1;"##;
    browser.wait_until("the one choice that is left", choices).await;
    browser.run(DROP, file("query.jpg", "image/jpeg", &pictures::jpeg(1, 0))).await;
    browser.wait_until("the results", ANSWERED).await;
    assert_eq!(browser.run(FIRST, Vec::new()).await["cards"], 6);
    assert_eq!(browser.console().await, Vec::<String>::new());
}
