//! The content of files that is known from their names, so that any storage can make it and anyone can check it.

/// The first `size` bytes of the name and a newline, repeated: the content that the Rucio databases of the tests are made
/// with, whose adler32 and md5 stand in their replicas.
pub fn content(name: &str, size: usize) -> Vec<u8> {
    name.bytes().chain(std::iter::once(b'\n')).cycle().take(size).collect()
}

/// The adler32 checksum (RFC 1950 section 8.2) as storages and Rucio write it: eight hex digits.
pub fn adler32(bytes: &[u8]) -> String {
    format!("{:08x}", adler2::adler32_slice(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_repeats_the_name_and_its_newline_and_is_cut() {
        assert_eq!(content("ab", 7), b"ab\nab\na");
        assert!(content("ab", 0).is_empty());
    }

    #[test]
    fn checksums_keep_their_leading_zeros() {
        // RFC 1950 section 8.2: the checksum of nothing is one.
        assert_eq!(adler32(b""), "00000001");
        assert_eq!(adler32(b"Wikipedia"), "11e60398");
    }
}
