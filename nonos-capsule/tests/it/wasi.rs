//! Files of a run: what the guest sees, what is committed to, what comes back.
