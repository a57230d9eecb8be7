//! The checks of an RSA public key (RFC 7518 §3.3, NIST SP 800-56B §6.4, ROCA).

use super::key_rejection::KeyRejection;

/// Shortest modulus, in bits.
const MIN_BITS: usize = 2_048;
/// Longest modulus, in bits: what the crypto library takes, and a bound on the work of one check.
const MAX_BITS: usize = 8_192;
/// Longest public exponent, in bits: what the crypto library takes.
const MAX_EXPONENT_BITS: usize = 33;

/// Whether modulus `n` and exponent `e`, big-endian, make a public key that may be used.
pub fn check(n: &[u8], e: &[u8]) -> Result<(), KeyRejection> {
    // RFC 7518 §6.3.1: no leading zero octets. A second spelling of a key is nothing a publisher writes.
    if n.first().is_none_or(|first| *first == 0) || e.first().is_none_or(|first| *first == 0) {
        return Err(KeyRejection::Encoding);
    }
    if !(MIN_BITS..=MAX_BITS).contains(&bits(n)) {
        return Err(KeyRejection::RsaSize);
    }
    // An even modulus is no product of two primes; an exponent of 1 makes every message its own signature.
    if is_even(n) || is_even(e) || e == [1] || bits(e) > MAX_EXPONENT_BITS {
        return Err(KeyRejection::RsaNumbers);
    }
    if has_roca_fingerprint(n) { Err(KeyRejection::Roca) } else { Ok(()) }
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn is_even(number: &[u8]) -> bool {
    number.last().is_none_or(|last| last % 2 == 0)
}

/// Primes that moduli of the flawed Infineon library are recognised by.
const FINGERPRINT_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103,
    107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether the modulus has the structure of CVE-2017-15361, whose private key can be computed: modulo every one of
/// these primes it is a power of 65537 (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, §3). By chance
/// that happens to one modulus in 10⁸.
fn has_roca_fingerprint(n: &[u8]) -> bool {
    FINGERPRINT_PRIMES.iter().all(|&prime| {
        let rest = n.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..prime).any(|_| {
            power = power * (65_537 % prime) % prime;
            power == rest
        })
    })
}
