//! The site of the design, and every long form of it.

mod site;

use site::Case;
use spec::diagnostic::{Style, render_all};

fn resolve(text: &str) -> spec::Resolved {
    Case::new(text).load().unwrap_or_else(|problems| panic!("{}", render_all(&problems, Style::Plain)))
}

#[test]
fn the_sample_loads() {
    let site = resolve(include_str!("valid/sample.yaml"));
    assert_eq!(render_all(&site.warnings, Style::Plain), "");
    assert_eq!(site.desired.containers.len(), 2);
}
