//! The first difference between two layouts, described for the error about a file with another
//! layout.

/// Returns the first difference between two layouts in a header's form, as the expected and the
/// found description.
///
/// A difference inside a struct, an array or a primitive may also change its size. Therefore a
/// container that differs only in its size is reported only if nothing inside it differs.
pub(in crate::memory) fn first_difference(expected: &str, found: &str) -> (String, String) {
    let mut around = None;
    let (mut expected, mut found) = (
        expected.lines().map(Entry::parse),
        found.lines().map(Entry::parse),
    );
    loop {
        match (expected.next(), found.next()) {
            (None, None) => {
                return around.unwrap_or_else(|| (describe_entry(None), describe_entry(None)));
            }
            (Some(ours), Some(theirs)) if ours == theirs => {}
            (Some(ours), Some(theirs)) if ours.is_the_same_but_for_its_size(&theirs) => {
                around.get_or_insert_with(|| {
                    (describe_entry(Some(ours)), describe_entry(Some(theirs)))
                });
            }
            (ours, theirs) => return (describe_entry(ours), describe_entry(theirs)),
        }
    }
}

/// A line of a layout: `offset size what path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<'a> {
    offset: &'a str,
    size: &'a str,
    what: &'a str,
    path: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Self {
        let mut parts = line.splitn(4, ' ');
        let mut part = || parts.next().unwrap_or("?");
        Entry {
            offset: part(),
            size: part(),
            what: part(),
            path: part(),
        }
    }

    fn is_the_same_but_for_its_size(&self, other: &Self) -> bool {
        self.path == other.path
            && self.offset == other.offset
            && self.container() == other.container()
            && self.container().is_some()
    }

    /// Returns what identifies an entry that contains others, except the parts that depend on their
    /// sizes. Returns `None` for other entries.
    fn container(&self) -> Option<&'a str> {
        let (kind, rest) = self.what.split_once(':')?;
        match kind {
            "aggregate" => Some(kind),
            "array" => self.what.split(',').next(),
            "primitive" => Some(rest),
            _ => None,
        }
    }
}

fn describe_entry(entry: Option<Entry<'_>>) -> String {
    let Some(Entry {
        offset,
        size,
        what,
        path,
    }) = entry
    else {
        return "nothing more".into();
    };
    let path = match path {
        "" => "the whole value".into(),
        path => format!("field `{path}`"),
    };
    let parameter = |name: &str| {
        let mut parameters = what.split([':', ',']);
        parameters
            .find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or("?")
    };
    let what = match what.split_once(':') {
        Some(("variant", variant)) => {
            let (name, discriminant) = variant.rsplit_once('=').unwrap_or((variant, "?"));
            return format!("{path}: variant `{name}` with discriminant {discriminant}");
        }
        Some(("aggregate", _)) => format!("a struct or enum, aligned to {}", parameter("align")),
        Some(("array", _)) => format!(
            "an array of {}, {} bytes apart",
            parameter("len"),
            parameter("stride")
        ),
        Some(("primitive", kind)) => format!("a pshared {kind}"),
        _ => what.into(),
    };
    format!("{path}: {what}, {size} bytes at offset {offset}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_difference(ours: &str, theirs: &str, expected: &str, found: &str) {
        assert_eq!(
            first_difference(ours, theirs),
            (expected.into(), found.into())
        );
    }

    #[test]
    fn the_first_difference_is_described_in_words() {
        assert_difference(
            "0 16 aggregate:align=8 \n0 8 u64 a\n8 4 u32 b\n",
            "0 16 aggregate:align=8 \n0 8 u64 a\n8 4 NonZeroU32 b\n",
            "field `b`: u32, 4 bytes at offset 8",
            "field `b`: NonZeroU32, 4 bytes at offset 8",
        );
    }

    #[test]
    fn a_changed_field_is_reported_and_not_the_struct_that_grew() {
        assert_difference(
            "0 8 aggregate:align=4 \n0 8 array:len=1,stride=8 a\n0 8 aggregate:align=4 a[]\n0 4 u32 a[].b\n",
            "0 16 aggregate:align=8 \n0 16 array:len=1,stride=16 a\n0 16 aggregate:align=8 a[]\n0 4 u32 a[].b\n8 8 u64 a[].c\n",
            "nothing more",
            "field `a[].c`: u64, 8 bytes at offset 8",
        );
        assert_difference(
            "0 48 primitive:mutex \n40 8 u64 data\n",
            "0 56 primitive:mutex \n40 8 i64 data\n",
            "field `data`: u64, 8 bytes at offset 40",
            "field `data`: i64, 8 bytes at offset 40",
        );
    }

    #[test]
    fn a_struct_that_grew_without_a_changed_field_is_reported_itself() {
        assert_difference(
            "0 64 aggregate:align=64 \n0 4 u32 a\n",
            "0 4 aggregate:align=4 \n0 4 u32 a\n",
            "the whole value: a struct or enum, aligned to 64, 64 bytes at offset 0",
            "the whole value: a struct or enum, aligned to 4, 4 bytes at offset 0",
        );
    }

    #[test]
    fn arrays_variants_and_primitives_are_described_in_words() {
        assert_difference(
            "0 24 array:len=3,stride=8 a\n",
            "0 32 array:len=4,stride=8 a\n",
            "field `a`: an array of 3, 8 bytes apart, 24 bytes at offset 0",
            "field `a`: an array of 4, 8 bytes apart, 32 bytes at offset 0",
        );
        assert_difference(
            "0 0 variant:Red=0 color\n",
            "0 0 variant:Red=-1 color\n",
            "field `color`: variant `Red` with discriminant 0",
            "field `color`: variant `Red` with discriminant -1",
        );
        assert_difference(
            "0 4 primitive:event \n",
            "0 4 AtomicU32 \n",
            "the whole value: a pshared event, 4 bytes at offset 0",
            "the whole value: AtomicU32, 4 bytes at offset 0",
        );
    }

    #[test]
    fn a_layout_that_ends_early_differs_there() {
        assert_difference(
            "0 8 u64 \n8 8 u64 b\n",
            "0 8 u64 \n",
            "field `b`: u64, 8 bytes at offset 8",
            "nothing more",
        );
    }
}
