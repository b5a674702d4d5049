//! A page that shows a run: figures, plots, and what searches find. One file; nothing is loaded from elsewhere.

use base64::Engine as _;
use dfml_models::RgbImage8;
use image::codecs::jpeg::JpegEncoder;

const JPEG_QUALITY: u8 = 80;
const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .9em;border-bottom:1px solid #ddd;text-align:left}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.row{display:flex;gap:6px;align-items:flex-start;margin:10px 0;overflow-x:auto}\
figure{margin:0;width:104px;flex:none;font-size:12px;overflow-wrap:anywhere}img{width:96px;height:96px;object-fit:cover;border:4px solid #888;border-radius:4px}\
.right img{border-color:#1a9850}.wrong img{border-color:#d73027}.query{margin-right:14px}.query img{border-color:#2c6fbb}\
svg{max-width:100%;height:auto}.mark{background:#fff3cd;padding:.6em 1em;border-radius:4px}";

/// A picture found by a search.
#[derive(Debug, Clone)]
pub struct SearchResult {
    /// The picture, as the network sees it.
    pub image: RgbImage8,
    /// Its file's name.
    pub name: String,
    /// Cosine with the query.
    pub score: f32,
    /// Whether it is of the query's class.
    pub is_right: bool,
}

/// A search: a query and what it finds, best first.
#[derive(Debug, Clone)]
pub struct Search {
    /// The picture that is searched with.
    pub query: RgbImage8,
    /// Its file's name.
    pub name: String,
    /// What is found.
    pub results: Vec<SearchResult>,
}

/// What the page shows.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Heading.
    pub title: String,
    /// Facts about the run, as sentences.
    pub facts: Vec<String>,
    /// A warning that must not be overlooked.
    pub mark: Option<String>,
    /// Rows of figures: name, and values under `columns`.
    pub figures: Vec<(String, Vec<String>)>,
    /// Heads of the columns of figures.
    pub columns: Vec<String>,
    /// SVG plots.
    pub plots: Vec<String>,
    /// Searches.
    pub searches: Vec<Search>,
}

impl Page {
    /// The page as HTML.
    ///
    /// # Errors
    /// A picture cannot be encoded, which happens only to one whose pixels do not fit its size.
    pub fn html(&self) -> Result<String, image::ImageError> {
        let title = escape(&self.title);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head>\
             <body>\n<h1>{title}</h1>\n"
        );
        for fact in &self.facts {
            out += &format!("<p>{}</p>\n", escape(fact));
        }
        if let Some(mark) = &self.mark {
            out += &format!("<p class=\"mark\">{}</p>\n", escape(mark));
        }
        if !self.figures.is_empty() {
            out += "<table><tr><th></th>";
            self.columns.iter().for_each(|head| out += &format!("<th class=\"n\">{}</th>", escape(head)));
            out += "</tr>\n";
            for (name, values) in &self.figures {
                out += &format!("<tr><td>{}</td>", escape(name));
                values.iter().for_each(|value| out += &format!("<td class=\"n\">{}</td>", escape(value)));
                out += "</tr>\n";
            }
            out += "</table>\n";
        }
        self.plots.iter().for_each(|plot| out += &format!("<div>{plot}</div>\n"));
        if !self.searches.is_empty() {
            out += "<h2>What searches find</h2>\n<p>Blue: what is searched with. Green: of the same class. Red: of another.</p>\n";
        }
        for search in &self.searches {
            out += "<div class=\"row\">";
            out += &figure("query", &search.query, &search.name, &search.name)?;
            for result in &search.results {
                let class = if result.is_right { "right" } else { "wrong" };
                out += &figure(class, &result.image, &format!("{:.3}", result.score), &result.name)?;
            }
            out += "</div>\n";
        }
        out += "</body></html>\n";
        Ok(out)
    }
}

fn figure(class: &str, image: &RgbImage8, caption: &str, name: &str) -> Result<String, image::ImageError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode(
        &image.data,
        image.width,
        image.height,
        image::ExtendedColorType::Rgb8,
    )?;
    let data = base64::engine::general_purpose::STANDARD.encode(jpeg);
    Ok(format!(
        "<figure class=\"{class}\"><img src=\"data:image/jpeg;base64,{data}\" alt=\"{name}\" title=\"{name}\">\
         <figcaption>{}</figcaption></figure>",
        escape(caption),
        name = escape(name)
    ))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_and_wrong_results_are_told_apart_and_text_is_escaped() {
        let image = RgbImage8 { width: 4, height: 2, data: vec![90; 24] };
        let result = |name: &str, is_right| SearchResult {
            image: image.clone(),
            name: name.to_owned(),
            score: 0.5,
            is_right,
        };
        let page = Page {
            title: "a <b> & \"c\"".to_owned(),
            figures: vec![("Recall@1".to_owned(), vec!["0.5".to_owned()])],
            columns: vec!["after".to_owned()],
            searches: vec![Search {
                query: image.clone(),
                name: "q.jpg".to_owned(),
                results: vec![result("r'.jpg", true), result("w.jpg", false)],
            }],
            ..Page::default()
        };
        let html = page.html().unwrap();
        assert!(html.contains("<h1>a &lt;b&gt; &amp; &quot;c&quot;</h1>"), "{html}");
        assert_eq!(html.matches("data:image/jpeg;base64,").count(), 3);
        let places = ["class=\"query\"", "class=\"right\"", "r&#39;.jpg", "class=\"wrong\""];
        let places: Vec<usize> = places.iter().map(|part| html.find(part).unwrap()).collect();
        assert!(places.is_sorted(), "{html}");
        assert!(!html.contains("http"), "nothing is loaded from elsewhere");
    }
}
