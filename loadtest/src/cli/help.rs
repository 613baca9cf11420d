//! The form of a help text, and how it is laid out for a terminal; what the commands say is in `topic`.

/// One option: its name, what it takes, and what it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OptionRow {
    pub(crate) name: &'static str,
    /// The name of its value; nothing for an option that takes none.
    pub(crate) value: &'static str,
    /// Lines of their own where it has several.
    pub(crate) help: &'static str,
    /// What holds without it; nothing where that needs no word.
    pub(crate) usual: &'static str,
}

impl OptionRow {
    pub(crate) const fn new(
        name: &'static str,
        value: &'static str,
        help: &'static str,
        usual: &'static str,
    ) -> Self {
        Self { name, value, help, usual }
    }
}

/// The help of one command.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// The forms of the command, one a line, without `usage:`.
    pub(crate) usage: &'static str,
    pub(crate) about: &'static str,
    pub(crate) sections: Vec<Section>,
    /// What is no option; may be empty.
    pub(crate) notes: &'static str,
    /// Each with what it means.
    pub(crate) exit_codes: &'static [(u8, &'static str)],
    /// Commands, each with what it does.
    pub(crate) examples: &'static [(&'static str, &'static str)],
}

/// A table of the help.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) head: &'static str,
    pub(crate) rows: Vec<OptionRow>,
}

/// Where the meanings begin, and the usual values, in columns.
const HELP_COLUMN: usize = 26;
const USUAL_COLUMN: usize = 75;

/// No line is longer.
pub(super) const WIDTH_MAX: usize = 100;

impl Page {
    /// The whole text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (number, form) in self.usage.lines().enumerate() {
            push_line(&mut text, &format!("{:<7}{form}", if number == 0 { "usage:" } else { "" }));
        }
        push_paragraph(&mut text, self.about);
        for section in &self.sections {
            push_paragraph(&mut text, section.head);
            if section.head.is_empty() {
                text.push('\n');
            }
            for row in &section.rows {
                push_row(&mut text, row);
            }
        }
        push_paragraph(&mut text, self.notes);
        text.push_str("\nexit codes\n");
        for (code, meaning) in self.exit_codes {
            push_line(&mut text, &format!("  {code:<5}{meaning}"));
        }
        text.push_str("\nexamples\n");
        let width = self.examples.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
        for (command, meaning) in self.examples {
            push_line(&mut text, &format!("  {command:width$}  {meaning}"));
        }
        text
    }
}

fn push_paragraph(text: &mut String, paragraph: &str) {
    if !paragraph.is_empty() {
        text.push('\n');
        push_line(text, paragraph);
    }
}

fn push_row(text: &mut String, row: &OptionRow) {
    let mut line = format!("  {} {}", row.name, row.value);
    let lines = row.help.lines().count();
    for (number, part) in row.help.lines().enumerate() {
        if line.trim_end().len() >= HELP_COLUMN {
            push_line(text, &line);
            line.clear();
        }
        line = format!("{:HELP_COLUMN$}{part}", line.trim_end());
        if number + 1 < lines {
            push_line(text, &line);
            line.clear();
        }
    }
    if !row.usual.is_empty() {
        let column = USUAL_COLUMN.min(WIDTH_MAX.saturating_sub(row.usual.len() + 2));
        if line.len() > column {
            push_line(text, &line);
            line.clear();
        }
        line = format!("{line:column$}[{}]", row.usual);
    }
    push_line(text, &line);
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_aligned_however_long_its_parts_are() {
        let mut text = String::new();
        push_row(&mut text, &OptionRow::new("--rate", "RATE", "a second", "20k"));
        push_row(&mut text, &OptionRow::new("--fault", "'TIME WHAT'", "one\ntwo", "none"));
        push_row(&mut text, &OptionRow::new("--a-very-long-option", "WITH-ITS-VALUE", "three", ""));
        let spaces = |count: usize| " ".repeat(count);
        let expected = format!(
            "  --rate RATE{}a second{}[20k]\n  --fault 'TIME WHAT'{}one\n{}two{}[none]\n  \
             --a-very-long-option WITH-ITS-VALUE\n{}three\n",
            spaces(13),
            spaces(41),
            spaces(5),
            spaces(26),
            spaces(46),
            spaces(26)
        );
        assert_eq!(text, expected, "\n{text}");
    }
}
