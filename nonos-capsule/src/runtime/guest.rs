/// A pointer or length from the guest that does not lie in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPointer;

/// The guest's memory: the one place where its pointers become slices.
pub(crate) struct GuestMemory<'a>(pub(crate) &'a mut [u8]);

impl GuestMemory<'_> {
    pub(crate) fn slice(&self, pointer: u32, len: u32) -> Result<&[u8], BadPointer> {
        let start = pointer as usize;
        let end = start.checked_add(len as usize).ok_or(BadPointer)?;
        self.0.get(start..end).ok_or(BadPointer)
    }

    pub(crate) fn slice_mut(&mut self, pointer: u32, len: u32) -> Result<&mut [u8], BadPointer> {
        let start = pointer as usize;
        let end = start.checked_add(len as usize).ok_or(BadPointer)?;
        self.0.get_mut(start..end).ok_or(BadPointer)
    }

    pub(crate) fn array<const N: usize>(&self, pointer: u32) -> Result<[u8; N], BadPointer> {
        let bytes = self.0.get(pointer as usize..).ok_or(BadPointer)?;
        bytes.first_chunk().copied().ok_or(BadPointer)
    }

    pub(crate) fn u32(&self, pointer: u32) -> Result<u32, BadPointer> {
        self.array(pointer).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&self, pointer: u32) -> Result<u64, BadPointer> {
        self.array(pointer).map(u64::from_le_bytes)
    }

    pub(crate) fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<(), BadPointer> {
        let len = u32::try_from(bytes.len()).map_err(|_| BadPointer)?;
        self.slice_mut(pointer, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn write_u32(&mut self, pointer: u32, value: u32) -> Result<(), BadPointer> {
        self.write(pointer, &value.to_le_bytes())
    }

    pub(crate) fn write_u64(&mut self, pointer: u32, value: u64) -> Result<(), BadPointer> {
        self.write(pointer, &value.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_end_at_the_end() {
        let mut bytes = [1, 2, 3, 4, 5];
        let mut memory = GuestMemory(&mut bytes);
        assert_eq!(memory.slice(5, 0), Ok(&[][..]));
        assert_eq!(memory.slice(6, 0), Err(BadPointer));
        assert_eq!(memory.slice(u32::MAX, u32::MAX), Err(BadPointer));
        assert_eq!(memory.u32(1), Ok(0x0504_0302));
        assert_eq!(memory.u32(2), Err(BadPointer));
        assert_eq!(memory.write_u64(0, 0), Err(BadPointer));
        assert_eq!(memory.write(3, &[9, 9]), Ok(()));
        assert_eq!(bytes, [1, 2, 3, 9, 9]);
    }
}
