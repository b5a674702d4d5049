//! The catalogue's page and that of the server's state.

use dfml_tests::client;
use serde_json::json;

use super::{ANSWERED, FIRST, console_besides, offers_to_try_again, open, problem, screenshot};

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
async fn a_product_that_has_gone_is_said_to_have_gone() {
    let (_shop, running, browser) = open("/catalogue").await;
    browser
        .wait_until("every product", r##"return document.querySelectorAll("#cards .card").length === 12"##)
        .await;
    let gone = client::client().delete(running.url("/v1/products")).json(&json!({ "ids": ["4"] }));
    assert_eq!(gone.send().await.expect("an answer").status(), 200);
    let click = |product: u64| {
        format!(r##"document.querySelector('#cards .card[data-product="{product}"] .open').click()"##)
    };
    browser.run(&click(4), Vec::new()).await;
    browser.wait_until("the problem", r##"return !document.getElementById("problem").hidden"##).await;
    let said = problem(&browser).await;
    assert!(said.contains("There is no such product") && said.contains("product_not_found"), "{said}");
    assert_eq!(offers_to_try_again(&browser).await, false, "it does not come back");

    browser.run(&click(5), Vec::new()).await;
    browser.wait_until("another product", r##"return document.getElementById("product").open"##).await;
    let hidden = r##"return document.getElementById("problem").hidden"##;
    assert_eq!(browser.run(hidden, Vec::new()).await, true);
    assert_eq!(console_besides(&browser, 404).await, Vec::<String>::new());
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
