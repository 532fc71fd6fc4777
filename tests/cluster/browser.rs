//! A page as a browser shows it: the real one measures it, at the width of a desk and of a telephone, by day and by night.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

use crate::outcome::Outcome;

/// Debian's name first.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Says what is on the page into its title. Without what the page itself forbids: it is to be without scripts.
const MEASURE: &str = r"<script>
addEventListener('load', () => {
  const box = element => element.getBoundingClientRect();
  const inside = (text, picture) => text.left >= picture.left - 1 && text.right <= picture.right + 1
    && text.top >= picture.top - 1 && text.bottom <= picture.bottom + 1;
  const cut = [...document.querySelectorAll('svg text')].filter(text => !inside(box(text), box(text.closest('svg'))));
  const bars = [...document.querySelectorAll('svg rect')].map(bar => Math.round(box(bar).width));
  const channels = colour => colour.match(/[\d.]+/g).slice(0, 3).map(part => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const light = colour => channels(colour).reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const contrast = [...document.querySelectorAll('h1, p, li b, td, th, footer, svg text')].map(element => {
    const style = getComputedStyle(element);
    const ink = light(element instanceof SVGElement ? style.fill : style.color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  });
  document.title = 'measured ' + JSON.stringify({
    sideways: document.documentElement.scrollWidth - innerWidth,
    cut: cut.map(text => text.textContent),
    bars,
    contrast: contrast.length ? Math.min(...contrast) : 0,
    dark: paper < 0.5,
    headings: [...document.querySelectorAll('h1, h2')].map(heading => heading.textContent),
    rows: document.querySelectorAll('tbody tr').length,
    fetched: performance.getEntriesByType('resource').map(one => one.name),
    scripts: document.scripts.length - 1,
  });
});
</script></head>";

/// What every page is held to; what is on it is returned for the test to judge. Nothing where there is no browser.
pub fn look(html: &str) -> Option<Value> {
    let Some(browser) = browser() else {
        let required = env::var("TAGOUT_E2E").is_ok_and(|wish| wish == "required");
        assert!(!required, "no browser is installed: apt-get install chromium");
        eprintln!("no browser is installed: what the page looks like is not looked at (apt-get install chromium)");
        return None;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let policy =
        html.find("<meta http-equiv=\"Content-Security-Policy\"").expect("the page allows nothing to be fetched");
    let policy = policy..policy + html[policy..].find('>').expect("its end") + 1;
    let mut measuring = html.to_owned();
    measuring.replace_range(policy, "");
    fs::write(&page, measuring.replacen("</head>", MEASURE, 1)).expect("written");
    let mut seen = Value::Null;
    for (width, dark) in [(1280, false), (1280, true), (480, false)] {
        seen = measured(browser, folder.path(), &page, width, dark);
        let said = format!("{width} wide, dark {dark}: {seen:#}");
        assert_eq!(seen["dark"], dark, "{said}");
        assert!(seen["sideways"].as_i64().is_some_and(|pixels| pixels <= 0), "it is wider than the window: {said}");
        assert_eq!(seen["cut"].as_array().map(Vec::len), Some(0), "names are cut: {said}");
        assert_eq!(seen["fetched"].as_array().map(Vec::len), Some(0), "it is to be self-contained: {said}");
        assert_eq!(seen["scripts"], 0, "{said}");
        // What WCAG asks of text.
        assert!(seen["contrast"].as_f64().is_some_and(|ratio| ratio >= 4.5), "hard to read: {said}");
    }
    Some(seen)
}

fn browser() -> Option<&'static str> {
    let is_there =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success());
    BROWSERS.into_iter().find(|name| is_there(name))
}

fn measured(browser: &str, folder: &Path, page: &Path, width: u32, dark: bool) -> Value {
    let mut command = Command::new(browser);
    // Tests run as root in CI, where its sandbox refuses to; what it is shown is ours.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]);
    command.args(["--disable-component-update", "--disable-sync", "--dump-dom", "--virtual-time-budget=2000"]);
    command.arg(format!("--window-size={width},900")).arg(format!("--user-data-dir={}", folder.join("user").display()));
    if dark {
        command.arg("--force-dark-mode").arg("--blink-settings=preferredColorScheme=0");
    }
    let dom = Outcome::of(command.arg(page), "").succeeds().out;
    let (_, title) = dom.split_once("<title>measured ").unwrap_or_else(|| panic!("it was not measured: {dom}"));
    let title = title.split_once("</title>").expect("its end").0.replace("&amp;", "&").replace("&lt;", "<");
    serde_json::from_str(&title.replace("&gt;", ">")).expect("JSON")
}
