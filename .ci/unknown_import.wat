;; Wants something that no host offers.
(module
  (import "env" "launch" (func $launch))
  (memory (export "memory") 1)
  (func (export "_start") (call $launch)))
