//! The Toeplitz hash bit by bit, as its definition has it.

/// For each bit of the input that is set, the 32 bits of the key from there on are added.
pub fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| {
        let byte = bytes.get(at / 8).copied().unwrap_or(0);
        u32::from(byte >> (7 - at % 8) & 1)
    };
    let mut hash = 0;
    for at in 0..input.len() * 8 {
        if bit(input, at) == 1 {
            for place in 0..32 {
                hash ^= bit(key, at + place) << (31 - place);
            }
        }
    }
    hash
}
