//! Power cuts under a real `redb`, replayed from a seed.
