//! Diagnostics as text, in the manner of rustc.

use super::{Diagnostic, Place, Severity};
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Whether text carries colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Plain text: for files, pipes and tests.
    Plain,
    /// With ANSI escapes: for terminals.
    Coloured,
}

/// One problem with its source line, underlined, and the way out; ends with a line break.
pub fn render(diagnostic: &Diagnostic, style: Style) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group =
        excerpt(level.primary_title(&diagnostic.message).elements(None::<Origin<'_>>), &diagnostic.place, AnnotationKind::Primary);
    for place in &diagnostic.related {
        group = excerpt(group, place, AnnotationKind::Context);
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let mut text = renderer.render(&[group]);
    text.push('\n');
    text
}

/// Every problem, an empty line between them.
pub fn render_all(diagnostics: &[Diagnostic], style: Style) -> String {
    diagnostics.iter().map(|diagnostic| render(diagnostic, style)).collect::<Vec<_>>().join("\n")
}

/// Adds a source line with its underline; only the position where there is no line to show.
fn excerpt<'a>(group: Group<'a>, place: &'a Place, kind: AnnotationKind) -> Group<'a> {
    let line = place.location.line as usize;
    let Some(text) = &place.text else {
        let origin = Origin::path(&*place.location.file).line(line).char_column(place.location.column as usize);
        return group.element(origin);
    };
    let start = byte_of(text, place.location.column.saturating_sub(1));
    let end = byte_of(text, place.location.column.saturating_sub(1).saturating_add(place.length));
    let annotation: Annotation<'a> = kind.span(start..end).label(place.label.as_deref());
    group.element(Snippet::source(text).line_start(line).path(&*place.location.file).annotation(annotation))
}

/// Where the character with this index begins; the end of the text if it has fewer.
fn byte_of(text: &str, characters: u32) -> usize {
    text.char_indices().nth(characters as usize).map_or(text.len(), |(byte, _)| byte)
}
