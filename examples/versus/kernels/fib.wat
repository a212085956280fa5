;; Made of fib.c; see src/capsule/kernels.rs.
(module
  (type (;0;) (func))
  (type (;1;) (func (param i32) (result i64)))
  (memory (;0;) 2)
  (global (;0;) (mut i32) i32.const 66560)
  (export "memory" (memory 0))
  (export "_start" (func 0))
  (func (;0;) (type 0)
    i32.const 0
    i32.const 32
    call 1
    i64.store offset=8
  )
  (func (;1;) (type 1) (param i32) (result i64)
    (local i64)
    i64.const 0
    local.set 1
    block ;; label = @1
      local.get 0
      i32.const 2
      i32.lt_u
      br_if 0 (;@1;)
      i64.const 0
      local.set 1
      loop ;; label = @2
        local.get 0
        i32.const -1
        i32.add
        call 1
        local.get 1
        i64.add
        local.set 1
        local.get 0
        i32.const -2
        i32.add
        local.tee 0
        i32.const 2
        i32.ge_u
        br_if 0 (;@2;)
      end
    end
    local.get 1
    local.get 0
    i64.extend_i32_u
    i64.add
  )
)
