use crate::flag_set::flag_set;

flag_set! {
    /// What a payload asks of the processor beside integers. An operator whose machine is slow at it, or
    /// whose machine it does not trust with it, leaves it out of its policy.
    CpuFeature,
    /// A set of [`CpuFeature`]s.
    CpuFeatureSet(u32),
    "processor feature",
    /// Arithmetic on floating-point numbers, alone or in vectors.
    0 Float "float",
    /// Vectors of 128 bits.
    1 Simd "simd",
    /// Copying, filling and initialising memory in bulk.
    2 BulkMemory "bulk-memory",
}
