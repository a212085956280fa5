use core::ops::Deref;

/// A value that nobody has checked yet. The only way to its content is [`Unverified::check`].
#[derive(Debug)]
#[must_use]
pub struct Unverified<T>(T);

impl<T> Unverified<T> {
    /// Marks a value that came from outside.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Runs the check and, if it holds, yields the value as [`Verified`].
    ///
    /// # Errors
    /// Whatever the check says; the value is gone with it.
    pub fn check<E>(self, check: impl FnOnce(&T) -> Result<(), E>) -> Result<Verified<T>, E> {
        check(&self.0)?;
        Ok(Verified(self.0))
    }
}

/// A value that passed its check. Stores and forwarders take nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// The value; from here on it is the caller who remembers that it was checked.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// Keeps the mark while taking a part of the value that the check covered.
    pub fn map<U>(self, part: impl FnOnce(T) -> U) -> Verified<U> {
        Verified(part(self.0))
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_verified() {
        let even = |n: &u32| if n.is_multiple_of(2) { Ok(()) } else { Err("odd") };
        assert_eq!(Unverified::new(4).check(even).map(Verified::into_inner), Ok(4));
        assert_eq!(Unverified::new(5).check(even), Err("odd"));
    }

    #[test]
    fn a_part_stays_verified() {
        let pair = Unverified::new((1, "one")).check(|_| Ok::<_, ()>(())).expect("no rule");
        assert_eq!(*pair.map(|(_, name)| name), "one");
    }
}
