;; Ranks words: reads all of standard input, counts its words, and prints the 20 most frequent,
;; one per line as "<count> <word>", the most frequent first and ties in alphabetical order.
;;
;; A word is a run of ASCII letters and digits; upper case counts as lower case. Every other byte
;; separates words. Exit code 0, or 1 if a stream fails or memory ends.
;;
;; Memory:
;;      0   one I/O vector: pointer, length
;;      8   bytes read or written by the last call
;;     16   decimal digits of a count, written from the end; the space after them is at 32
;;     33   the line feed
;;     64   the ranking: up to 20 pointers to entries, best first
;;   4096   hash table: 65 536 heads of chains of entries
;; 266240   the input, then the entries, 16 bytes each: next, pointer to word, length, count
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit"
    (func $proc_exit (param i32)))

  (memory (export "memory") 5)
  (data (i32.const 32) " \n")

  (global $input i32 (i32.const 266240))
  ;; First byte after the input, and first byte of the entries.
  (global $input_end (mut i32) (i32.const 266240))
  (global $entries (mut i32) (i32.const 0))
  ;; First free byte behind everything.
  (global $free (mut i32) (i32.const 266240))
  ;; Lines in the ranking.
  (global $ranked (mut i32) (i32.const 0))

  (func $fail
    (call $proc_exit (i32.const 1))
    (unreachable))

  ;; Grows memory until the address is inside, by a quarter at a time to keep calls few.
  (func $reserve (param $address i32)
    (local $missing i32)
    (if (i32.gt_u (local.get $address) (i32.shl (memory.size) (i32.const 16)))
      (then
        (local.set $missing
          (i32.sub
            (i32.add (i32.shr_u (local.get $address) (i32.const 16)) (i32.const 1))
            (memory.size)))
        (if (i32.lt_u (local.get $missing) (i32.shr_u (memory.size) (i32.const 2)))
          (then (local.set $missing (i32.shr_u (memory.size) (i32.const 2)))))
        (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1))
          (then (call $fail))))))

  ;; Reads standard input to its end.
  (func $read_all
    (local $read i32)
    (loop $more
      (call $reserve (i32.add (global.get $free) (i32.const 65536)))
      (i32.store (i32.const 0) (global.get $free))
      (i32.store (i32.const 4) (i32.const 65536))
      (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (call $fail)))
      (local.set $read (i32.load (i32.const 8)))
      (global.set $free (i32.add (global.get $free) (local.get $read)))
      (br_if $more (local.get $read)))
    (global.set $input_end (global.get $free))
    ;; Entries are aligned to four bytes.
    (global.set $free (i32.and (i32.add (global.get $free) (i32.const 3)) (i32.const -4)))
    (global.set $entries (global.get $free)))

  ;; The byte in lower case if it belongs to a word, else 0.
  (func $fold (param $byte i32) (result i32)
    (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 65)) (i32.const 26))   ;; A..Z
      (then (return (i32.add (local.get $byte) (i32.const 32)))))
    (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 97)) (i32.const 26))   ;; a..z
      (then (return (local.get $byte))))
    (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 48)) (i32.const 10))   ;; 0..9
      (then (return (local.get $byte))))
    (i32.const 0))

  ;; Compares two words by bytes: below zero, zero or above, as the first sorts before, with or
  ;; after the second.
  (func $compare (param $a i32) (param $a_len i32) (param $b i32) (param $b_len i32) (result i32)
    (local $i i32) (local $order i32)
    (block $end
      (loop $next
        (br_if $end (i32.ge_u (local.get $i) (local.get $a_len)))
        (br_if $end (i32.ge_u (local.get $i) (local.get $b_len)))
        (local.set $order
          (i32.sub
            (i32.load8_u (i32.add (local.get $a) (local.get $i)))
            (i32.load8_u (i32.add (local.get $b) (local.get $i)))))
        (if (local.get $order) (then (return (local.get $order))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    ;; One is the beginning of the other: the shorter comes first.
    (i32.sub (local.get $a_len) (local.get $b_len)))

  ;; Adds one to the count of a word, with a new entry at its first time.
  (func $count (param $word i32) (param $len i32) (param $hash i32)
    (local $head i32) (local $entry i32)
    ;; The low sixteen bits of the hash choose the chain.
    (local.set $head
      (i32.add (i32.const 4096)
        (i32.shl (i32.and (local.get $hash) (i32.const 0xffff)) (i32.const 2))))
    (local.set $entry (i32.load (local.get $head)))
    (block $absent
      (loop $next
        (br_if $absent (i32.eqz (local.get $entry)))
        (if (i32.eqz
              (call $compare
                (i32.load offset=4 (local.get $entry)) (i32.load offset=8 (local.get $entry))
                (local.get $word) (local.get $len)))
          (then
            (i32.store offset=12 (local.get $entry)
              (i32.add (i32.load offset=12 (local.get $entry)) (i32.const 1)))
            (return)))
        (local.set $entry (i32.load (local.get $entry)))
        (br $next)))
    (local.set $entry (global.get $free))
    (global.set $free (i32.add (global.get $free) (i32.const 16)))
    (call $reserve (global.get $free))
    (i32.store (local.get $entry) (i32.load (local.get $head)))
    (i32.store offset=4 (local.get $entry) (local.get $word))
    (i32.store offset=8 (local.get $entry) (local.get $len))
    (i32.store offset=12 (local.get $entry) (i32.const 1))
    (i32.store (local.get $head) (local.get $entry)))

  ;; Walks over the input, folds it in place and counts every word.
  (func $count_all
    (local $at i32) (local $word i32) (local $hash i32) (local $byte i32)
    (local.set $at (global.get $input))
    (loop $next_word
      (local.set $word (local.get $at))
      (local.set $hash (i32.const 0x811c9dc5))                                 ;; FNV-1a
      (block $word_end
        (loop $next_byte
          (br_if $word_end (i32.ge_u (local.get $at) (global.get $input_end)))
          (local.set $byte (call $fold (i32.load8_u (local.get $at))))
          (br_if $word_end (i32.eqz (local.get $byte)))
          (i32.store8 (local.get $at) (local.get $byte))
          (local.set $hash
            (i32.mul (i32.xor (local.get $hash) (local.get $byte)) (i32.const 0x01000193)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next_byte)))
      (if (i32.gt_u (local.get $at) (local.get $word))
        (then
          (call $count (local.get $word)
            (i32.sub (local.get $at) (local.get $word))
            (i32.xor (local.get $hash) (i32.shr_u (local.get $hash) (i32.const 16))))))
      ;; Past the separator.
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next_word (i32.lt_u (local.get $at) (global.get $input_end)))))

  ;; Whether the first entry ranks above the second: counted more often, or equally often and
  ;; earlier in the alphabet.
  (func $above (param $a i32) (param $b i32) (result i32)
    (local $a_count i32) (local $b_count i32)
    (local.set $a_count (i32.load offset=12 (local.get $a)))
    (local.set $b_count (i32.load offset=12 (local.get $b)))
    (if (i32.ne (local.get $a_count) (local.get $b_count))
      (then (return (i32.gt_u (local.get $a_count) (local.get $b_count)))))
    (i32.lt_s
      (call $compare
        (i32.load offset=4 (local.get $a)) (i32.load offset=8 (local.get $a))
        (i32.load offset=4 (local.get $b)) (i32.load offset=8 (local.get $b)))
      (i32.const 0)))

  ;; Address of a place in the ranking.
  (func $place (param $rank i32) (result i32)
    (i32.add (i32.const 64) (i32.shl (local.get $rank) (i32.const 2))))

  ;; Inserts every entry into the ranking if it is above the last of the 20.
  (func $rank_all
    (local $entry i32) (local $rank i32)
    (local.set $entry (global.get $entries))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $entry) (global.get $free)))
        (local.set $rank (global.get $ranked))
        ;; Move what is below one place down; what falls off the end is out.
        (block $found
          (loop $down
            (br_if $found (i32.eqz (local.get $rank)))
            (br_if $found
              (i32.eqz
                (call $above (local.get $entry)
                  (i32.load (call $place (i32.sub (local.get $rank) (i32.const 1)))))))
            (if (i32.lt_u (local.get $rank) (i32.const 20))
              (then
                (i32.store (call $place (local.get $rank))
                  (i32.load (call $place (i32.sub (local.get $rank) (i32.const 1)))))))
            (local.set $rank (i32.sub (local.get $rank) (i32.const 1)))
            (br $down)))
        (if (i32.lt_u (local.get $rank) (i32.const 20))
          (then
            (i32.store (call $place (local.get $rank)) (local.get $entry))
            (if (i32.lt_u (global.get $ranked) (i32.const 20))
              (then (global.set $ranked (i32.add (global.get $ranked) (i32.const 1)))))))
        (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
        (br $next))))

  ;; Writes bytes to standard output, in as many calls as it takes.
  (func $write (param $at i32) (param $len i32)
    (local $written i32)
    (loop $more
      (i32.store (i32.const 0) (local.get $at))
      (i32.store (i32.const 4) (local.get $len))
      (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (call $fail)))
      (local.set $written (i32.load (i32.const 8)))
      (local.set $at (i32.add (local.get $at) (local.get $written)))
      (local.set $len (i32.sub (local.get $len) (local.get $written)))
      (br_if $more (local.get $len))))

  ;; Prints the ranking.
  (func $print_all
    (local $rank i32) (local $entry i32) (local $count i32) (local $digit i32)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $rank) (global.get $ranked)))
        (local.set $entry (i32.load (call $place (local.get $rank))))
        ;; Digits from the last to the first, up to the space at 32.
        (local.set $count (i32.load offset=12 (local.get $entry)))
        (local.set $digit (i32.const 32))
        (loop $digits
          (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
          (i32.store8 (local.get $digit)
            (i32.add (i32.const 48) (i32.rem_u (local.get $count) (i32.const 10))))
          (local.set $count (i32.div_u (local.get $count) (i32.const 10)))
          (br_if $digits (local.get $count)))
        (call $write (local.get $digit) (i32.sub (i32.const 33) (local.get $digit)))
        (call $write (i32.load offset=4 (local.get $entry)) (i32.load offset=8 (local.get $entry)))
        (call $write (i32.const 33) (i32.const 1))
        (local.set $rank (i32.add (local.get $rank) (i32.const 1)))
        (br $next))))

  (func (export "_start")
    (call $read_all)
    (call $count_all)
    (call $rank_all)
    (call $print_all)))
