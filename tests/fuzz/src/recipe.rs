//! Reads choices, numbers and pieces from a fuzzer's bytes; at their end everything is 0 or empty.

pub(crate) struct Recipe<'d> {
    data: &'d [u8],
}

impl<'d> Recipe<'d> {
    pub(crate) fn new(data: &'d [u8]) -> Self {
        Self { data }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.data {
            [byte, rest @ ..] => {
                self.data = rest;
                *byte
            }
            [] => 0,
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        let count = usize::from(self.byte() % 9);
        self.take(count).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A piece of at most 255 bytes, its length first.
    pub(crate) fn piece(&mut self) -> &'d [u8] {
        let count = usize::from(self.byte());
        self.take(count)
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'d [u8] {
        self.data
    }

    fn take(&mut self, count: usize) -> &'d [u8] {
        let (piece, rest) = self.data.split_at(count.min(self.data.len()));
        self.data = rest;
        piece
    }
}
