//! Whether two Dictionaries that are still encoded say the same: what a game saves again is most often built in the same
//! order, and then it need not be looked up.

use godot::builtin::VariantType;

use super::decoder::Reader;
use super::error::JsonError;

/// Whether both are the same as JSON; `None` where it takes more than reading them side by side: members in another order,
/// or values of types that JSON does not tell apart.
pub fn alike(one: &[u8], other: &[u8]) -> Option<bool> {
    if one == other {
        return Some(true);
    }
    value(&mut Reader::new(one), &mut Reader::new(other)).ok().flatten()
}

fn value<'a>(one: &mut Reader<'a>, other: &mut Reader<'a>) -> Result<Option<bool>, JsonError> {
    use VariantType as T;

    let ((kind, flags), (other_kind, other_flags)) = (one.head()?, other.head()?);
    let same = match (kind, other_kind) {
        (T::NIL, T::NIL) => true,
        (T::BOOL, T::BOOL) => one.bool()? == other.bool()?,
        (T::INT, T::INT) => one.int(flags)? == other.int(other_flags)?,
        // Bit for bit: -0.0 is not 0.0.
        (T::FLOAT, T::FLOAT) => one.float(flags)?.to_bits() == other.float(other_flags)?.to_bits(),
        (T::STRING | T::STRING_NAME, T::STRING | T::STRING_NAME) => one.string()? == other.string()?,
        (T::ARRAY, T::ARRAY) => {
            one.container_type(flags)?;
            other.container_type(other_flags)?;
            let count = one.count(4)?;
            if count != other.count(4)? {
                return Ok(Some(false));
            }
            return all(count, || value(one, other));
        }
        (T::DICTIONARY, T::DICTIONARY) => {
            for (reader, flags) in [(&mut *one, flags), (&mut *other, other_flags)] {
                reader.container_type(flags & 0b11)?;
                reader.container_type(flags >> 2)?;
            }
            let count = one.count(8)?;
            if count != other.count(8)? {
                return Ok(Some(false));
            }
            return all(count, || if one.key()? == other.key()? { value(one, other) } else { Ok(None) });
        }
        _ => return Ok(None),
    };
    Ok(Some(same))
}

/// Stops at the first that is not the same.
fn all(
    count: usize,
    mut next: impl FnMut() -> Result<Option<bool>, JsonError>,
) -> Result<Option<bool>, JsonError> {
    for _ in 0..count {
        let same = next()?;
        if same != Some(true) {
            return Ok(same);
        }
    }
    Ok(Some(true))
}
