;; Made of sort.c; see src/capsule/kernels.rs.
(module
  (type (;0;) (func))
  (type (;1;) (func (param i32 i32)))
  (memory (;0;) 26)
  (global (;0;) (mut i32) i32.const 1666560)
  (export "memory" (memory 0))
  (export "_start" (func 0))
  (func (;0;) (type 0)
    (local i32 i32 i64)
    i32.const 12345
    local.set 0
    i32.const -1600000
    local.set 1
    loop ;; label = @1
      local.get 1
      i32.const 1601024
      i32.add
      local.get 0
      i32.const 1664525
      i32.mul
      i32.const 1013904223
      i32.add
      local.tee 0
      i32.store
      local.get 1
      i32.const 1601028
      i32.add
      local.get 0
      i32.const 1664525
      i32.mul
      i32.const 1013904223
      i32.add
      local.tee 0
      i32.store
      local.get 1
      i32.const 1601032
      i32.add
      local.get 0
      i32.const 1664525
      i32.mul
      i32.const 1013904223
      i32.add
      local.tee 0
      i32.store
      local.get 1
      i32.const 1601036
      i32.add
      local.get 0
      i32.const 1664525
      i32.mul
      i32.const 1013904223
      i32.add
      local.tee 0
      i32.store
      local.get 1
      i32.const 1601040
      i32.add
      local.get 0
      i32.const 1664525
      i32.mul
      i32.const 1013904223
      i32.add
      local.tee 0
      i32.store
      local.get 1
      i32.const 20
      i32.add
      local.tee 1
      br_if 0 (;@1;)
    end
    i32.const 1024
    i32.const 1601020
    call 1
    i64.const 0
    local.set 2
    i32.const -1600000
    local.set 1
    loop ;; label = @1
      local.get 2
      i64.const 31
      i64.mul
      local.get 1
      i32.const 1601024
      i32.add
      i64.load32_u
      i64.add
      i64.const 31
      i64.mul
      local.get 1
      i32.const 1601028
      i32.add
      i64.load32_u
      i64.add
      i64.const 31
      i64.mul
      local.get 1
      i32.const 1601032
      i32.add
      i64.load32_u
      i64.add
      i64.const 31
      i64.mul
      local.get 1
      i32.const 1601036
      i32.add
      i64.load32_u
      i64.add
      i64.const 31
      i64.mul
      local.get 1
      i32.const 1601040
      i32.add
      i64.load32_u
      i64.add
      local.set 2
      local.get 1
      i32.const 20
      i32.add
      local.tee 1
      br_if 0 (;@1;)
    end
    i32.const 0
    local.get 2
    i64.store offset=8
  )
  (func (;1;) (type 1) (param i32 i32)
    (local i32 i32 i32 i32 i32 i32)
    block ;; label = @1
      local.get 0
      local.get 1
      i32.ge_u
      br_if 0 (;@1;)
      local.get 1
      i32.const 4
      i32.add
      local.set 2
      loop ;; label = @2
        local.get 0
        i32.const -4
        i32.add
        local.set 3
        local.get 0
        local.get 1
        local.get 0
        i32.sub
        i32.const 2
        i32.shr_s
        i32.const 2
        i32.div_s
        i32.const 2
        i32.shl
        i32.add
        i32.load
        local.set 4
        local.get 2
        local.set 5
        loop ;; label = @3
          local.get 3
          i32.const 4
          i32.add
          local.tee 3
          i32.load
          local.tee 6
          local.get 4
          i32.lt_u
          br_if 0 (;@3;)
          loop ;; label = @4
            local.get 5
            i32.const -4
            i32.add
            local.tee 5
            i32.load
            local.tee 7
            local.get 4
            i32.gt_u
            br_if 0 (;@4;)
          end
          block ;; label = @4
            local.get 3
            local.get 5
            i32.ge_u
            br_if 0 (;@4;)
            local.get 3
            local.get 7
            i32.store
            local.get 5
            local.get 6
            i32.store
            br 1 (;@3;)
          end
        end
        local.get 0
        local.get 5
        call 1
        local.get 5
        i32.const 4
        i32.add
        local.tee 0
        local.get 1
        i32.lt_u
        br_if 0 (;@2;)
      end
    end
  )
)
