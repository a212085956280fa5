;; Made of keccak.c; see src/capsule/kernels.rs.
(module
  (type (;0;) (func))
  (memory (;0;) 2)
  (global (;0;) (mut i32) i32.const 66768)
  (export "memory" (memory 0))
  (export "_start" (func 0))
  (func (;0;) (type 0)
    (local i32 i64 i64 i64 i64 i64 i64 i64 i32 i32 i32 i32 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i32 i32 i32 i32 i32)
    global.get 0
    i32.const 208
    i32.sub
    local.tee 0
    global.set 0
    i32.const 0
    i64.load offset=1216
    local.set 1
    i32.const 0
    i64.load offset=1176
    local.set 2
    i32.const 0
    i64.load offset=1208
    local.set 3
    i32.const 0
    i64.load offset=1200
    local.set 4
    i32.const 0
    i64.load offset=1192
    local.set 5
    i32.const 0
    i64.load offset=1184
    local.set 6
    i32.const 0
    i64.load offset=1024
    local.set 7
    i32.const 0
    local.set 8
    loop ;; label = @1
      i32.const 1
      local.set 9
      i32.const 0
      local.set 10
      loop ;; label = @2
        i32.const 0
        local.set 11
        i32.const 0
        i64.load offset=1168
        local.set 12
        i32.const 0
        i64.load offset=1128
        local.set 13
        i32.const 0
        i64.load offset=1048
        local.set 14
        i32.const 0
        i64.load offset=1088
        local.set 15
        i32.const 0
        i64.load offset=1160
        local.set 16
        i32.const 0
        i64.load offset=1120
        local.set 17
        i32.const 0
        i64.load offset=1040
        local.set 18
        i32.const 0
        i64.load offset=1080
        local.set 19
        i32.const 0
        i64.load offset=1064
        local.set 20
        i32.const 0
        i64.load offset=1104
        local.set 21
        i32.const 0
        i64.load offset=1144
        local.set 22
        i32.const 0
        i32.const 0
        i64.load offset=1096
        local.tee 23
        i32.const 0
        i64.load offset=1056
        local.tee 24
        i64.xor
        i32.const 0
        i64.load offset=1136
        local.tee 25
        i64.xor
        local.get 2
        i64.xor
        local.get 1
        i64.xor
        local.tee 26
        i32.const 0
        i64.load offset=1072
        local.tee 27
        i32.const 0
        i64.load offset=1032
        local.tee 28
        i64.xor
        i32.const 0
        i64.load offset=1112
        local.tee 29
        i64.xor
        i32.const 0
        i64.load offset=1152
        local.tee 30
        i64.xor
        local.get 5
        i64.xor
        local.tee 31
        i64.const 1
        i64.rotl
        i64.xor
        local.tee 32
        local.get 6
        i64.xor
        i64.store offset=1184
        i32.const 0
        local.get 32
        local.get 22
        i64.xor
        i64.store offset=1144
        i32.const 0
        local.get 32
        local.get 21
        i64.xor
        i64.store offset=1104
        i32.const 0
        local.get 32
        local.get 20
        i64.xor
        i64.store offset=1064
        i32.const 0
        local.get 32
        local.get 7
        i64.xor
        local.tee 33
        i64.store offset=1024
        i32.const 0
        local.get 16
        local.get 17
        local.get 19
        local.get 18
        i64.xor
        i64.xor
        i64.xor
        local.get 4
        i64.xor
        local.tee 34
        i64.const 1
        i64.rotl
        local.get 22
        local.get 21
        local.get 20
        local.get 7
        i64.xor
        i64.xor
        i64.xor
        local.get 6
        i64.xor
        local.tee 7
        i64.xor
        local.tee 32
        local.get 5
        i64.xor
        i64.store offset=1192
        i32.const 0
        local.get 32
        local.get 30
        i64.xor
        i64.store offset=1152
        i32.const 0
        local.get 32
        local.get 29
        i64.xor
        i64.store offset=1112
        i32.const 0
        local.get 32
        local.get 27
        i64.xor
        i64.store offset=1072
        i32.const 0
        local.get 32
        local.get 28
        i64.xor
        i64.store offset=1032
        i32.const 0
        local.get 12
        local.get 13
        local.get 15
        local.get 14
        i64.xor
        i64.xor
        i64.xor
        local.get 3
        i64.xor
        local.tee 5
        i64.const 1
        i64.rotl
        local.get 31
        i64.xor
        local.tee 32
        local.get 4
        i64.xor
        i64.store offset=1200
        i32.const 0
        local.get 32
        local.get 16
        i64.xor
        i64.store offset=1160
        i32.const 0
        local.get 32
        local.get 17
        i64.xor
        i64.store offset=1120
        i32.const 0
        local.get 32
        local.get 19
        i64.xor
        i64.store offset=1080
        i32.const 0
        local.get 32
        local.get 18
        i64.xor
        i64.store offset=1040
        i32.const 0
        local.get 26
        i64.const 1
        i64.rotl
        local.get 34
        i64.xor
        local.tee 32
        local.get 3
        i64.xor
        i64.store offset=1208
        i32.const 0
        local.get 32
        local.get 12
        i64.xor
        i64.store offset=1168
        i32.const 0
        local.get 32
        local.get 13
        i64.xor
        i64.store offset=1128
        i32.const 0
        local.get 32
        local.get 15
        i64.xor
        i64.store offset=1088
        i32.const 0
        local.get 32
        local.get 14
        i64.xor
        i64.store offset=1048
        i32.const 0
        local.get 1
        local.get 5
        local.get 7
        i64.const 1
        i64.rotl
        i64.xor
        local.tee 32
        i64.xor
        i64.store offset=1216
        i32.const 0
        local.get 2
        local.get 32
        i64.xor
        i64.store offset=1176
        i32.const 0
        local.get 25
        local.get 32
        i64.xor
        i64.store offset=1136
        i32.const 0
        local.get 32
        local.get 23
        i64.xor
        i64.store offset=1096
        i32.const 0
        local.get 32
        local.get 24
        i64.xor
        i64.store offset=1056
        local.get 0
        local.get 33
        i64.store
        i32.const 1
        local.set 35
        i32.const 2
        local.set 36
        loop ;; label = @3
          local.get 35
          i32.const 1
          i32.shl
          local.get 11
          local.tee 37
          i32.const 3
          i32.mul
          i32.add
          i32.const 5
          i32.rem_s
          local.set 11
          local.get 37
          i32.const 5
          i32.mul
          local.get 35
          i32.add
          i32.const 3
          i32.shl
          i32.const 1024
          i32.add
          i64.load
          local.set 32
          block ;; label = @4
            local.get 36
            i32.const -1
            i32.add
            local.get 36
            i32.mul
            i32.const 1
            i32.shr_u
            i32.const 63
            i32.and
            local.tee 35
            i32.eqz
            br_if 0 (;@4;)
            local.get 32
            local.get 35
            i64.extend_i32_u
            i64.rotl
            local.set 32
          end
          local.get 0
          local.get 11
          i32.const 5
          i32.mul
          local.get 37
          i32.add
          i32.const 3
          i32.shl
          i32.add
          local.get 32
          i64.store
          local.get 37
          local.set 35
          local.get 36
          i32.const 1
          i32.add
          local.tee 36
          i32.const 26
          i32.ne
          br_if 0 (;@3;)
        end
        i32.const 0
        local.get 0
        i64.load offset=16
        local.tee 32
        local.get 0
        i64.load offset=8
        local.tee 7
        i64.const -1
        i64.xor
        i64.and
        local.get 0
        i64.load
        local.tee 1
        i64.xor
        i64.store offset=1024
        i32.const 0
        local.get 7
        local.get 0
        i64.load offset=24
        local.tee 2
        local.get 32
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1032
        i32.const 0
        local.get 0
        i64.load offset=32
        local.tee 3
        local.get 7
        local.get 1
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1056
        i32.const 0
        local.get 2
        local.get 1
        local.get 3
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1048
        i32.const 0
        local.get 32
        local.get 3
        local.get 2
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1040
        i32.const 0
        local.get 0
        i64.load offset=56
        local.tee 32
        local.get 0
        i64.load offset=48
        local.tee 7
        i64.const -1
        i64.xor
        i64.and
        local.get 0
        i64.load offset=40
        local.tee 1
        i64.xor
        i64.store offset=1064
        i32.const 0
        local.get 7
        local.get 0
        i64.load offset=64
        local.tee 2
        local.get 32
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1072
        i32.const 0
        local.get 0
        i64.load offset=72
        local.tee 3
        local.get 7
        local.get 1
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1096
        i32.const 0
        local.get 2
        local.get 1
        local.get 3
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1088
        i32.const 0
        local.get 32
        local.get 3
        local.get 2
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1080
        i32.const 0
        local.get 0
        i64.load offset=96
        local.tee 32
        local.get 0
        i64.load offset=88
        local.tee 7
        i64.const -1
        i64.xor
        i64.and
        local.get 0
        i64.load offset=80
        local.tee 1
        i64.xor
        i64.store offset=1104
        i32.const 0
        local.get 7
        local.get 0
        i64.load offset=104
        local.tee 2
        local.get 32
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1112
        i32.const 0
        local.get 32
        local.get 0
        i64.load offset=112
        local.tee 3
        local.get 2
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1120
        i32.const 0
        local.get 2
        local.get 1
        local.get 3
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1128
        i32.const 0
        local.get 3
        local.get 7
        local.get 1
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1136
        i32.const 0
        local.get 0
        i64.load offset=136
        local.tee 32
        local.get 0
        i64.load offset=128
        local.tee 7
        i64.const -1
        i64.xor
        i64.and
        local.get 0
        i64.load offset=120
        local.tee 1
        i64.xor
        i64.store offset=1144
        i32.const 0
        local.get 7
        local.get 0
        i64.load offset=144
        local.tee 3
        local.get 32
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1152
        i32.const 0
        local.get 0
        i64.load offset=152
        local.tee 4
        local.get 7
        local.get 1
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        local.tee 2
        i64.store offset=1176
        i32.const 0
        local.get 32
        local.get 4
        local.get 3
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1160
        i32.const 0
        local.get 3
        local.get 1
        local.get 4
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        i64.store offset=1168
        i32.const 0
        local.get 0
        i64.load offset=176
        local.tee 32
        local.get 0
        i64.load offset=168
        local.tee 7
        i64.const -1
        i64.xor
        i64.and
        local.get 0
        i64.load offset=160
        local.tee 3
        i64.xor
        local.tee 6
        i64.store offset=1184
        i32.const 0
        local.get 7
        local.get 0
        i64.load offset=184
        local.tee 12
        local.get 32
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        local.tee 5
        i64.store offset=1192
        i32.const 0
        local.get 0
        i64.load offset=192
        local.tee 13
        local.get 7
        local.get 3
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        local.tee 1
        i64.store offset=1216
        i32.const 0
        local.get 32
        local.get 13
        local.get 12
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        local.tee 4
        i64.store offset=1200
        i32.const 0
        local.get 12
        local.get 3
        local.get 13
        i64.const -1
        i64.xor
        i64.and
        i64.xor
        local.tee 3
        i64.store offset=1208
        i32.const 0
        local.get 9
        i32.const 24
        i32.shl
        i32.const 31
        i32.shr_s
        i32.const 113
        i32.and
        local.tee 37
        local.get 9
        i32.const 1
        i32.shl
        i32.const 126
        i32.and
        i32.xor
        local.tee 36
        i32.const 1
        i32.shl
        local.get 9
        i32.const 25
        i32.shl
        i32.const 31
        i32.shr_s
        i32.const 113
        i32.and
        local.tee 11
        i32.xor
        local.tee 35
        i32.const 1
        i32.shl
        i32.const 126
        i32.and
        local.get 36
        i32.const 25
        i32.shl
        i32.const 31
        i32.shr_s
        i32.const 113
        i32.and
        local.tee 38
        i32.xor
        local.tee 39
        i32.const 1
        i32.shl
        local.get 35
        i32.const 25
        i32.shl
        i32.const 31
        i32.shr_s
        i32.const 113
        i32.and
        local.tee 35
        i32.xor
        local.tee 36
        i32.const 6
        i32.shr_u
        i64.extend_i32_u
        i64.const 63
        i64.shl
        local.get 37
        i32.const 1
        i32.shl
        i32.const 2
        i32.and
        local.get 9
        i32.const 1
        i32.and
        i32.or
        local.get 11
        i32.const 3
        i32.shl
        i32.const 8
        i32.and
        i32.or
        local.get 38
        i32.const 7
        i32.shl
        i32.const 128
        i32.and
        i32.or
        local.get 35
        i32.const 15
        i32.shl
        i32.const 32768
        i32.and
        i32.or
        local.get 39
        i32.const 25
        i32.shl
        i32.const 31
        i32.shr_s
        i32.const 113
        i32.and
        local.tee 37
        i32.const 31
        i32.shl
        i32.or
        i64.extend_i32_u
        i64.or
        i32.const 0
        i64.load offset=1024
        i64.xor
        local.tee 7
        i64.store offset=1024
        local.get 36
        i32.const 1
        i32.shl
        i32.const 126
        i32.and
        local.get 37
        i32.xor
        local.tee 37
        i32.const 2
        i32.shl
        i32.const 252
        i32.and
        local.get 36
        i32.const 25
        i32.shl
        i32.const 31
        i32.shr_s
        i32.const 226
        i32.and
        i32.xor
        local.get 37
        i32.const 25
        i32.shl
        i32.const 31
        i32.shr_s
        i32.const 113
        i32.and
        i32.xor
        local.set 9
        local.get 10
        i32.const 1
        i32.add
        local.tee 10
        i32.const 24
        i32.ne
        br_if 0 (;@2;)
      end
      local.get 8
      i32.const 1
      i32.add
      local.tee 8
      i32.const 40000
      i32.ne
      br_if 0 (;@1;)
    end
    i32.const 0
    local.get 7
    i64.store offset=8
    local.get 0
    i32.const 208
    i32.add
    global.set 0
  )
)
