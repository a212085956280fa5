;; Made of mandelbrot.c; see src/capsule/kernels.rs.
(module
  (type (;0;) (func))
  (memory (;0;) 2)
  (global (;0;) (mut i32) i32.const 66560)
  (export "memory" (memory 0))
  (export "_start" (func 0))
  (func (;0;) (type 0)
    (local i64 i32 f64 f64 f64 i32 f64 i32 f64 f64 f64 f64 i32)
    i64.const 0
    local.set 0
    i32.const 0
    local.set 1
    f64.const 0x0p+0 (;=0;)
    local.set 2
    loop ;; label = @1
      local.get 2
      f64.const 0x1.8p+6 (;=96;)
      f64.div
      f64.const -0x1p+0 (;=-1;)
      f64.add
      local.set 3
      f64.const 0x0p+0 (;=0;)
      local.set 4
      i32.const 0
      local.set 5
      loop ;; label = @2
        local.get 4
        f64.const 0x1.8p+6 (;=96;)
        f64.div
        f64.const -0x1p+1 (;=-2;)
        f64.add
        local.set 6
        i32.const 0
        local.set 7
        f64.const 0x0p+0 (;=0;)
        local.set 8
        f64.const 0x0p+0 (;=0;)
        local.set 9
        f64.const 0x0p+0 (;=0;)
        local.set 10
        f64.const 0x0p+0 (;=0;)
        local.set 11
        block ;; label = @3
          loop ;; label = @4
            local.get 10
            local.get 11
            f64.sub
            local.set 10
            local.get 0
            i64.const 1
            i64.add
            local.set 0
            local.get 8
            local.get 8
            f64.add
            local.get 9
            f64.mul
            local.get 3
            f64.add
            local.tee 9
            local.get 9
            f64.mul
            local.tee 11
            local.get 6
            local.get 10
            f64.add
            local.tee 8
            local.get 8
            f64.mul
            local.tee 10
            f64.add
            f64.const 0x1p+2 (;=4;)
            f64.le
            i32.eqz
            br_if 1 (;@3;)
            local.get 7
            i32.const 299
            i32.lt_u
            local.set 12
            local.get 8
            local.set 8
            local.get 7
            i32.const 1
            i32.add
            local.set 7
            local.get 12
            br_if 0 (;@4;)
          end
        end
        local.get 4
        f64.const 0x1p+0 (;=1;)
        f64.add
        local.set 4
        local.get 5
        i32.const 1
        i32.add
        local.tee 5
        i32.const 256
        i32.ne
        br_if 0 (;@2;)
      end
      local.get 2
      f64.const 0x1p+0 (;=1;)
      f64.add
      local.set 2
      local.get 1
      i32.const 1
      i32.add
      local.tee 1
      i32.const 192
      i32.ne
      br_if 0 (;@1;)
    end
    i32.const 0
    local.get 0
    i64.store offset=8
  )
)
