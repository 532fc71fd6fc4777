//! Takes the answer to a list apart while it arrives.
//!
//! A page of 500 objects may be 100 MB: every object can carry large annotations and the history of its fields. So no
//! page is ever held as a whole, but one object at a time, until it is reduced to what is asked of it.

/// No object is larger, and neither is what surrounds the objects of a page.
const LARGEST: usize = 8 << 20;

/// Finds the elements of the list `items` or `rows` in a JSON object.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    depth: usize,
    in_string: bool,
    escaped: bool,
    in_list: bool,
    /// The last string on the first level: what a colon makes a key.
    word: Vec<u8>,
    /// The beginning of an element whose end has not arrived.
    element: Vec<u8>,
    /// Everything but the elements.
    envelope: Vec<u8>,
}

/// The answer is no list, or larger than any.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoList;

impl Splitter {
    pub(super) fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), NoList> {
        // Where what has not been put anywhere begins.
        let mut from = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            if self.in_string {
                self.within_string(byte);
                continue;
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    if self.depth == 1 {
                        self.word.clear();
                    }
                }
                b'{' | b'[' => {
                    if byte == b'[' && self.depth == 1 && matches!(&*self.word, b"items" | b"rows") {
                        self.envelope.extend_from_slice(&chunk[from..=at]);
                        from = at + 1;
                        self.in_list = true;
                    }
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.checked_sub(1).ok_or(NoList)?;
                    if self.in_list && self.depth == 2 {
                        self.hand_over(&chunk[from..=at], &mut each);
                        from = at + 1;
                    } else if self.in_list && self.depth == 1 {
                        self.in_list = false;
                        self.element.clear();
                        from = at;
                    }
                }
                b',' if self.in_list && self.depth == 2 => from = at + 1,
                // The value of the next key is not the value of this one.
                b',' if self.depth == 1 => self.word.clear(),
                _ => {}
            }
        }
        let rest = if self.in_list { &mut self.element } else { &mut self.envelope };
        rest.extend_from_slice(&chunk[from..]);
        if rest.len() > LARGEST { Err(NoList) } else { Ok(()) }
    }

    /// What surrounds the elements, when everything has arrived.
    pub(super) fn finish(self) -> Result<Vec<u8>, NoList> {
        if self.depth == 0 && !self.in_string { Ok(self.envelope) } else { Err(NoList) }
    }

    fn within_string(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            return;
        }
        if self.depth == 1 && self.word.len() < 16 {
            self.word.push(byte);
        }
    }

    fn hand_over(&mut self, end: &[u8], each: &mut impl FnMut(&[u8])) {
        if self.element.is_empty() {
            return each(end);
        }
        self.element.extend_from_slice(end);
        each(&self.element);
        self.element.clear();
        // One large object shall not hold its memory until the list ends.
        self.element.shrink_to(64 << 10);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    use proptest::{collection, prop_assert_eq};
    use serde_json::{Value, json};

    use super::*;

    /// The elements, and the rest.
    fn split(text: &str, chunk: usize) -> Result<(Vec<Value>, Value), NoList> {
        let mut splitter = Splitter::default();
        let mut elements = Vec::new();
        for chunk in text.as_bytes().chunks(chunk) {
            splitter.feed(chunk, |element| elements.push(serde_json::from_slice(element).unwrap()))?;
        }
        Ok((elements, serde_json::from_slice(&splitter.finish()?).unwrap_or_default()))
    }

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            Just("items".to_owned()),
            Just("\"items\": [{".to_owned()),
            Just("\\\"}],".to_owned()),
        ]
    }

    proptest::proptest! {
        #[test]
        fn the_elements_are_those_of_the_list_wherever_the_answer_is_cut(
            words in collection::vec(texts(), 0..6), chunk in 1..200_usize, pretty in any::<bool>(), rows in any::<bool>(),
        ) {
            let elements: Vec<Value> =
                words.iter().map(|word| json!({"a": {"items": [word, {}]}, word.as_str(): [word], "": 1})).collect();
            let list = if rows { "rows" } else { "items" };
            let answer = json!({"kind": words, "columns": {"items": [{}]}, list: elements, "metadata": {"items": []}});
            let text = if pretty { serde_json::to_string_pretty(&answer) } else { serde_json::to_string(&answer) };
            let (found, rest) = split(&text.unwrap(), chunk).unwrap();
            prop_assert_eq!(found, elements);
            let mut expected = answer;
            expected[list] = json!([]);
            prop_assert_eq!(rest, expected);
        }
    }

    #[test]
    fn a_list_may_be_empty_or_absent() {
        for text in [r#"{"items":[],"kind":"L"}"#, r#"{"kind":"L","items":null}"#, r#"{"kind":"items","x":[{}]}"#] {
            let (elements, rest) = split(text, 7).unwrap();
            assert_eq!((elements.len(), rest), (0, serde_json::from_str(text).unwrap()));
        }
    }

    #[test]
    fn what_is_cut_off_or_no_json_is_no_list() {
        for text in [r#"{"items":[{"a":1}"#, r#"{"items":[{"a":1}]"#, "]", r#"{"a":"#, r#"{"a":"}"#] {
            assert_eq!(split(text, 5).unwrap_err(), NoList, "{text}");
        }
    }

    #[test]
    fn nothing_endless_is_held() {
        let mut splitter = Splitter::default();
        splitter.feed(br#"{"items":[{"a":""#, |_| ()).unwrap();
        let megabyte = vec![b'x'; 1 << 20];
        assert!((0..10).any(|_| splitter.feed(&megabyte, |_| ()).is_err()));
    }
}
