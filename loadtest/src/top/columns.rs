//! Rows of columns, of which a narrow screen has those that there is room for, each of them whole.

/// A column of a block.
#[derive(Debug)]
pub(super) struct Column {
    head: &'static str,
    /// At least; more where a cell needs more.
    width: usize,
    side: Side,
    /// Those of the highest rank are left out first, and those of rank 0 never.
    rank: u8,
}

/// Where a cell stands in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Column {
    pub(super) const fn left(head: &'static str, width: usize, rank: u8) -> Self {
        Self { head, width, side: Side::Left, rank }
    }

    pub(super) const fn right(head: &'static str, width: usize, rank: u8) -> Self {
        Self { head, width, side: Side::Right, rank }
    }
}

/// The heads, and the rows below them, within `width` letters: as many columns as have room there side by side, and of
/// those that say nothing none. Rows have a cell for each column.
pub(super) fn lines(columns: &[Column], rows: &[Vec<String>], width: usize) -> (String, Vec<String>) {
    let letters = |text: &str| text.chars().count();
    let longest = |place: usize| {
        let cells = rows.iter().filter_map(|row| row.get(place)).map(|cell| letters(cell));
        cells.max().unwrap_or(0).max(letters(columns[place].head))
    };
    let widths: Vec<usize> = (0..columns.len()).map(longest).collect();
    let mut shown: Vec<usize> = (0..columns.len()).filter(|place| widths[*place] > 0).collect();
    let wide = |place: usize| widths[place].max(columns[place].width);
    while shown.iter().map(|place| wide(*place) + 1).sum::<usize>() > width.saturating_add(1) {
        let rank = |place: &usize| columns[*place].rank;
        match shown.iter().copied().filter(|place| rank(place) > 0).max_by_key(rank) {
            Some(least) => shown.retain(|place| *place != least),
            None => break,
        }
    }
    let line = |cells: &[&str]| {
        let padded = shown.iter().map(|place| {
            let (cell, wide) = (cells.get(*place).copied().unwrap_or(""), wide(*place));
            match columns[*place].side {
                Side::Left => format!("{cell:<wide$}"),
                Side::Right => format!("{cell:>wide$}"),
            }
        });
        padded.collect::<Vec<_>>().join(" ")
    };
    let head: Vec<&str> = columns.iter().map(|column| column.head).collect();
    let row = |row: &Vec<String>| line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    (line(&head), rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::left("name", 6, 0),
        Column::right("rate", 5, 1),
        Column::right("p99", 5, 2),
        Column::left("", 0, 0),
    ];

    fn within(width: usize, state: &str) -> (String, Vec<String>) {
        let row = ["c1", "120", "1ms", state].map(str::to_owned);
        lines(&COLUMNS, &[row.to_vec()], width)
    }

    #[test]
    fn a_column_that_has_no_room_is_left_out_whole() {
        for (width, head, row) in [
            (usize::MAX, "name    rate   p99", "c1       120   1ms"),
            (18, "name    rate   p99", "c1       120   1ms"),
            (17, "name    rate", "c1       120"),
            (11, "name  ", "c1    "),
            (1, "name  ", "c1    "),
        ] {
            let (told, rows) = within(width, "");
            assert_eq!((told.as_str(), rows[0].as_str()), (head, row), "{width}");
        }
    }

    #[test]
    fn a_column_is_as_wide_as_its_longest_cell_and_there_when_it_has_one() {
        let (head, rows) = within(21, "stopped");
        assert_eq!((head.as_str(), rows[0].as_str()), ("name    rate        ", "c1       120 stopped"));
    }
}
