//! Numbers that look random and are the same every time.

pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).expect("it fits")).expect("it is below")
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Takes something out, puts something in, or says something twice.
    pub fn damage(&mut self, text: &mut Vec<u8>) {
        let from = self.below(text.len());
        let end = (from + self.below(24)).min(text.len());
        match self.below(4) {
            0 => drop(text.drain(from..end)),
            1 => {
                let piece = text[from..end].to_vec();
                let at = self.below(text.len() + 1);
                text.splice(at..at, piece);
            }
            2 => {
                let word = self.one_of(&["null", "[]", "{}", "\"\"", "0", "true", "\"x\"", "\\u0000", "---", "1e999"]);
                text.splice(from..end, word.bytes());
            }
            _ => {
                let byte = u8::try_from(self.below(256)).expect("a byte");
                if let Some(own) = text.get_mut(from) {
                    *own = byte;
                }
            }
        }
    }
}
