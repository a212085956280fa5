;; Made of matmul.c; see src/capsule/kernels.rs.
(module
  (type (;0;) (func))
  (memory (;0;) 9)
  (global (;0;) (mut i32) i32.const 527360)
  (export "memory" (memory 0))
  (export "_start" (func 0))
  (func (;0;) (type 0)
    (local i32 i32 i32 f64 i32 i32 i32 i32 f32 i64)
    i32.const 77
    local.set 0
    loop ;; label = @1
      local.get 0
      i32.const -77
      i32.add
      local.tee 1
      i32.const 65535
      i32.and
      i32.const 240
      i32.div_u
      local.tee 2
      i32.const 960
      i32.mul
      local.get 1
      local.get 2
      i32.const 240
      i32.mul
      i32.sub
      i32.const 65535
      i32.and
      i32.const 2
      i32.shl
      i32.add
      local.tee 2
      i32.const 231424
      i32.add
      local.get 0
      i32.const 255
      i32.and
      f32.convert_i32_u
      f32.store
      local.get 2
      i32.const 1024
      i32.add
      local.get 1
      i32.const 255
      i32.and
      f32.convert_i32_u
      f32.store
      local.get 0
      i32.const 1
      i32.add
      local.tee 0
      i32.const 57677
      i32.ne
      br_if 0 (;@1;)
    end
    f64.const 0x0p+0 (;=0;)
    local.set 3
    i32.const 0
    local.set 4
    i32.const 1024
    local.set 5
    loop ;; label = @1
      i32.const 231424
      local.set 6
      i32.const 0
      local.set 7
      loop ;; label = @2
        f32.const 0x0p+0 (;=0;)
        local.set 8
        i32.const 0
        local.set 2
        local.get 6
        local.set 0
        loop ;; label = @3
          local.get 5
          local.get 2
          i32.add
          local.tee 1
          i32.const 12
          i32.add
          f32.load
          local.get 0
          i32.const 2880
          i32.add
          f32.load
          f32.mul
          local.get 1
          i32.const 8
          i32.add
          f32.load
          local.get 0
          i32.const 1920
          i32.add
          f32.load
          f32.mul
          local.get 1
          i32.const 4
          i32.add
          f32.load
          local.get 0
          i32.const 960
          i32.add
          f32.load
          f32.mul
          local.get 1
          f32.load
          local.get 0
          f32.load
          f32.mul
          local.get 8
          f32.add
          f32.add
          f32.add
          f32.add
          local.set 8
          local.get 0
          i32.const 3840
          i32.add
          local.set 0
          local.get 2
          i32.const 16
          i32.add
          local.tee 2
          i32.const 960
          i32.ne
          br_if 0 (;@3;)
        end
        local.get 6
        i32.const 4
        i32.add
        local.set 6
        local.get 3
        local.get 8
        f64.promote_f32
        f64.add
        local.set 3
        local.get 7
        i32.const 1
        i32.add
        local.tee 7
        i32.const 240
        i32.ne
        br_if 0 (;@2;)
      end
      local.get 5
      i32.const 960
      i32.add
      local.set 5
      local.get 4
      i32.const 1
      i32.add
      local.tee 4
      i32.const 240
      i32.ne
      br_if 0 (;@1;)
    end
    block ;; label = @1
      block ;; label = @2
        local.get 3
        f64.const 0x1p+64 (;=18446744073709552000;)
        f64.lt
        local.get 3
        f64.const 0x0p+0 (;=0;)
        f64.ge
        i32.and
        i32.eqz
        br_if 0 (;@2;)
        local.get 3
        i64.trunc_f64_u
        local.set 9
        br 1 (;@1;)
      end
      i64.const 0
      local.set 9
    end
    i32.const 0
    local.get 9
    i64.store offset=8
  )
)
