use crate::flag_set::flag_set;

flag_set! {
    /// A wall between a run and what is not its own. It stands if the run did without what is behind it; a
    /// policy that requires it takes that away.
    Wall,
    /// A set of [`Wall`]s.
    WallSet(u16),
    "wall",
    /// No message from or to the mesh.
    0 Mesh "mesh",
    /// No directory, so no image that somebody else packed and no file.
    1 Files "files",
    /// No library: one instance, the only one that touches its memory.
    2 Libraries "libraries",
}
