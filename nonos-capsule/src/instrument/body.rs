//! Metering of one function body.

use std::collections::{BTreeMap, BTreeSet};

use wasm_encoder::reencode::Reencode as _;
use wasm_encoder::{BlockType, BranchHint, Function, Instruction, TypeSection, ValType};
use wasmparser::{FunctionBody, Operator};

use super::leaf::{LEAF_SLOTS, UNCHECKED_GAS};
use super::{Added, SAVED_MAX};
use crate::operator::{self, BULK_BYTES_SHIFT, GAS_PER_PAGE};
use crate::profile::ProfileError;

/// Gas to subtract before the instruction at `position`.
#[derive(Clone, Copy)]
struct Charge {
    position: usize,
    gas: u64,
    /// Whether to look if the slice is overdrawn: at loop heads and function entries.
    is_checked: bool,
}

/// A block, loop or `if` being open.
#[derive(Default)]
struct Frame {
    /// Where the body of a loop begins.
    loop_body: Option<usize>,
    /// Whether a branch ends at its end.
    joins: bool,
    /// Locals that are floats and used in it, at most [`SAVED_MAX`].
    floats: BTreeSet<u32>,
}

/// What of a body decides how it is metered.
#[derive(Default)]
struct Plan {
    /// Stretches that run from their first instruction to their last or trap. Calls do not
    /// split: what follows a call is paid before it.
    charges: Vec<Charge>,
    /// Calls something that keeps its gas in the global.
    calls: bool,
    /// Has operations that are paid by an operand.
    pays_by_operand: bool,
    /// Has a way out beside its end.
    leaves_early: bool,
    /// Floats that each loop uses, at most [`SAVED_MAX`], by where its body begins.
    floats: BTreeMap<usize, BTreeSet<u32>>,
}

impl Plan {
    fn new(operators: &[Operator<'_>], added: &Added<'_>, is_float: impl Fn(u32) -> bool) -> Self {
        let mut plan = Self::default();
        let mut open = Charge { position: 0, gas: 0, is_checked: false };
        let mut frames = vec![Frame { joins: true, ..Frame::default() }];
        for (position, operator) in operators.iter().enumerate() {
            open.gas += operator::gas(operator);
            let open_frames = frames.len();
            let mut branch = |depth: u32| {
                plan.leaves_early |= depth as usize + 1 == open_frames;
                let frame = frames.iter_mut().rev().nth(depth as usize);
                if let Some(frame) = frame.filter(|frame| frame.loop_body.is_none()) {
                    frame.joins = true;
                }
            };
            let splits = match operator {
                Operator::Block { .. } => {
                    frames.push(Frame::default());
                    false
                }
                Operator::Loop { .. } => {
                    frames.push(Frame { loop_body: Some(position + 1), ..Frame::default() });
                    true
                }
                Operator::If { .. } => {
                    frames.push(Frame { joins: true, ..Frame::default() });
                    true
                }
                Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                    branch(*relative_depth);
                    true
                }
                Operator::BrTable { targets } => {
                    targets.targets().filter_map(Result::ok).for_each(&mut branch);
                    branch(targets.default());
                    true
                }
                Operator::Return => {
                    plan.leaves_early = true;
                    true
                }
                Operator::Else | Operator::Unreachable => true,
                Operator::End => frames.pop().is_none_or(|Frame { loop_body, joins, floats }| {
                    if let Some(outer) = frames.last_mut() {
                        let room = SAVED_MAX.saturating_sub(outer.floats.len());
                        outer.floats.extend(floats.iter().take(room));
                    }
                    plan.floats.extend(loop_body.map(|body| (body, floats)));
                    joins
                }),
                Operator::LocalGet { local_index }
                | Operator::LocalSet { local_index }
                | Operator::LocalTee { local_index } => {
                    let frame = frames.last_mut().filter(|frame| frame.floats.len() < SAVED_MAX);
                    if let Some(frame) = frame.filter(|_| is_float(*local_index)) {
                        frame.floats.insert(*local_index);
                    }
                    false
                }
                Operator::Call { function_index } => {
                    match added.prepaid(*function_index) {
                        Some(gas) => open.gas += gas,
                        None => plan.calls = true,
                    }
                    false
                }
                Operator::CallIndirect { .. } => {
                    plan.calls = true;
                    false
                }
                _ => {
                    plan.pays_by_operand |= operator::pays_by_operand(operator);
                    false
                }
            };
            if splits {
                plan.charges.push(open);
                let is_checked = matches!(operator, Operator::Loop { .. });
                open = Charge { position: position + 1, gas: 0, is_checked };
            }
        }
        // A function that calls may do so for ever, and one that is long may be called many times
        // by a stretch without a check.
        let gas: u64 = plan.charges.iter().map(|charge| charge.gas).sum();
        if let Some(entry) = plan.charges.first_mut() {
            entry.is_checked |= plan.calls || gas > UNCHECKED_GAS;
        }
        plan.charges.retain(|charge| charge.gas > 0 || charge.is_checked);
        plan
    }

    /// Whether the gas is a constant that needs no local.
    fn is_flat(&self) -> bool {
        let is_checked = self.charges.iter().any(|charge| charge.is_checked);
        self.charges.len() <= 1 && !is_checked && !self.calls && !self.pays_by_operand
    }
}

/// Locals and indices that the added code of one function uses.
struct Emitter {
    function: Function,
    /// The added conditions, none of which is expected to hold.
    hints: Vec<BranchHint>,
    tick: u32,
    gas_global: u32,
    depth_global: u32,
    gas: u32,
    scratch: u32,
    result: u32,
    /// Slots of the frame, if it counts.
    slots: Option<i32>,
    /// Whether the local is out of date and the global is not: after a call, until somebody
    /// needs the local.
    is_stale: bool,
}

impl Emitter {
    fn emit(&mut self, instructions: &[Instruction<'_>]) {
        for instruction in instructions {
            self.function.instruction(instruction);
        }
    }

    /// Opens what runs when a slice or the stack is at its end. The hint lets a compiler move that
    /// out of the way, and with it the call that would have every register saved in each loop.
    fn unlikely_if(&mut self) {
        let place = u32::try_from(self.function.byte_len()).unwrap_or(u32::MAX);
        self.hints.push(BranchHint { branch_func_offset: place, branch_hint_value: 0 });
        self.emit(&[Instruction::If(BlockType::Empty)]);
    }

    fn reload(&mut self) {
        if self.is_stale {
            self.emit(&[Instruction::GlobalGet(self.gas_global), Instruction::LocalSet(self.gas)]);
            self.is_stale = false;
        }
    }

    fn flush(&mut self) {
        if !self.is_stale {
            self.emit(&[Instruction::LocalGet(self.gas), Instruction::GlobalSet(self.gas_global)]);
        }
    }

    /// Charges, and looks at the slice if the charge says so; `saved` are locals and the globals
    /// that hold them during a tick.
    fn charge(&mut self, charge: Charge, saved: &[(u32, u32)]) {
        if charge.gas > 0 {
            let stored = if self.is_stale {
                Instruction::GlobalGet(self.gas_global)
            } else {
                Instruction::LocalGet(self.gas)
            };
            self.emit(&[stored, gas_const(charge.gas), Instruction::I64Sub, Instruction::LocalSet(self.gas)]);
            self.is_stale = false;
        }
        if charge.is_checked {
            self.check(saved);
        }
    }

    /// Calls the host if the slice is overdrawn.
    fn check(&mut self, saved: &[(u32, u32)]) {
        self.reload();
        self.emit(&[Instruction::LocalGet(self.gas), Instruction::I64Const(0), Instruction::I64LtS]);
        self.unlikely_if();
        for (local, global) in saved {
            self.emit(&[Instruction::LocalGet(*local), Instruction::GlobalSet(*global)]);
        }
        self.tick();
        for (local, global) in saved {
            self.emit(&[Instruction::GlobalGet(*global), Instruction::LocalSet(*local)]);
        }
        self.emit(&[Instruction::End]);
    }

    fn tick(&mut self) {
        self.flush();
        self.emit(&[Instruction::Call(self.tick)]);
        self.is_stale = true;
        self.reload();
    }

    /// Takes the frame's slots and pays the first stretch; one condition watches both.
    fn enter(&mut self, first: Option<Charge>) {
        let Some(slots) = self.slots else {
            first.into_iter().for_each(|charge| self.charge(charge, &[]));
            return;
        };
        self.emit(&[
            Instruction::GlobalGet(self.depth_global),
            Instruction::I32Const(slots),
            Instruction::I32Sub,
            Instruction::LocalTee(self.scratch),
            Instruction::GlobalSet(self.depth_global),
        ]);
        let is_checked = first.is_some_and(|charge| charge.is_checked);
        first.into_iter().for_each(|charge| self.charge(Charge { is_checked: false, ..charge }, &[]));
        let is_overdrawn =
            [Instruction::LocalGet(self.scratch), Instruction::I32Const(0), Instruction::I32LtS];
        if is_checked {
            self.reload();
            self.emit(&[
                Instruction::LocalGet(self.scratch),
                Instruction::I64ExtendI32S,
                Instruction::LocalGet(self.gas),
                Instruction::I64Or,
                Instruction::I64Const(0),
                Instruction::I64LtS,
            ]);
            self.unlikely_if();
            self.emit(&is_overdrawn);
            self.emit(&[Instruction::If(BlockType::Empty), Instruction::Unreachable, Instruction::End]);
            self.tick();
        } else {
            self.emit(&is_overdrawn);
            self.unlikely_if();
            self.emit(&[Instruction::Unreachable]);
        }
        self.emit(&[Instruction::End]);
    }

    fn leave(&mut self) {
        self.flush();
        if let Some(slots) = self.slots {
            self.emit(&[
                Instruction::GlobalGet(self.depth_global),
                Instruction::I32Const(slots),
                Instruction::I32Add,
                Instruction::GlobalSet(self.depth_global),
            ]);
        }
    }

    /// The operand on top is a length in bytes: pays for it before the operation runs.
    fn charge_bytes(&mut self) {
        self.reload();
        self.emit(&[
            Instruction::LocalTee(self.scratch),
            Instruction::LocalGet(self.gas),
            Instruction::LocalGet(self.scratch),
            Instruction::I64ExtendI32U,
            Instruction::I64Const(BULK_BYTES_SHIFT),
            Instruction::I64ShrU,
            Instruction::I64Sub,
            Instruction::LocalSet(self.gas),
        ]);
        self.check(&[]);
    }

    /// Grows memory and pays for the pages if that succeeds; a refused request is free, so that
    /// an allocator may probe.
    fn grow(&mut self, grow: &Instruction<'_>) {
        self.reload();
        self.emit(&[Instruction::LocalTee(self.scratch), grow.clone(), Instruction::LocalTee(self.result)]);
        self.emit(&[
            Instruction::LocalGet(self.gas),
            Instruction::LocalGet(self.scratch),
            Instruction::I64ExtendI32U,
            Instruction::I64Const(GAS_PER_PAGE),
            Instruction::I64Mul,
            Instruction::I64Const(0),
            Instruction::LocalGet(self.result),
            Instruction::I32Const(-1),
            Instruction::I32Ne,
            Instruction::Select,
            Instruction::I64Sub,
            Instruction::LocalSet(self.gas),
        ]);
        self.check(&[]);
    }
}

/// Whether values of the type are in registers that no call saves.
const fn is_float(ty: ValType) -> bool {
    matches!(ty, ValType::F32 | ValType::F64 | ValType::V128)
}

fn gas_const(gas: u64) -> Instruction<'static> {
    Instruction::I64Const(i64::try_from(gas).unwrap_or(i64::MAX))
}

pub(super) fn transform(
    added: &mut Added<'_>,
    types: &mut TypeSection,
    body: &FunctionBody<'_>,
    defined: u32,
) -> Result<(Function, Vec<BranchHint>), ProfileError> {
    let facts = added.facts;
    let missing = || ProfileError::Invalid {
        offset: body.range().start as u64,
        message: "unknown function".to_owned(),
    };
    let function_index = facts.import_count() + defined;
    let ty = facts.function_type(function_index).ok_or_else(missing)?;
    let frame_slots = *facts.frame_slots.get(defined as usize).ok_or_else(missing)?;
    let slots = i32::try_from(frame_slots).map_err(|_| missing())?;

    let mut locals = Vec::new();
    let mut local_types = ty.params().iter().map(|ty| added.val_type(*ty)).collect::<Result<Vec<_>, _>>()?;
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        let ty = added.val_type(ty)?;
        locals.push((count, ty));
        local_types.extend(core::iter::repeat_n(ty, count as usize));
    }
    let local_count = u32::try_from(local_types.len()).map_err(|_| missing())?;
    let operators: Vec<Operator<'_>> = body.get_operators_reader()?.into_iter().collect::<Result<_, _>>()?;
    if added.prepaid(function_index).is_some() {
        let mut function = Function::new(locals);
        for operator in operators {
            function.instruction(&added.instruction(operator)?);
        }
        return Ok((function, Vec::new()));
    }
    let is_float = |local: u32| local_types.get(local as usize).is_some_and(|ty| is_float(*ty));
    let plan = Plan::new(&operators, added, is_float);
    let counts_slots = added.counts_depth && (plan.calls || frame_slots > LEAF_SLOTS);
    let is_flat = plan.is_flat() && !counts_slots;
    if !is_flat {
        locals.push((1, ValType::I64));
    }
    if counts_slots || plan.pays_by_operand {
        locals.push((2, ValType::I32));
    }

    let mut emitter = Emitter {
        function: Function::new(locals),
        hints: Vec::new(),
        tick: added.tick,
        gas_global: added.gas,
        depth_global: added.depth,
        gas: local_count,
        scratch: local_count + 1,
        result: local_count + 2,
        slots: counts_slots.then_some(slots),
        is_stale: true,
    };
    let Plan { charges, floats, leaves_early, .. } = plan;
    let mut charges = charges.into_iter().peekable();
    // One block around the body if there are more ways out than its end: a branch to the
    // function's label ends there as it is, and so does a `return` as a branch.
    let is_wrapped = leaves_early && !is_flat;
    if !is_flat {
        emitter.enter(charges.next_if(|charge| charge.position == 0));
    }
    if is_wrapped {
        emitter.reload();
        let block_type = match ty.results() {
            [] => BlockType::Empty,
            [result] => BlockType::Result(added.val_type(*result)?),
            results => {
                let index = types.len();
                let results = results.iter().map(|ty| added.val_type(*ty)).collect::<Result<Vec<_>, _>>()?;
                types.ty().function([], results);
                BlockType::FunctionType(index)
            }
        };
        emitter.emit(&[Instruction::Block(block_type)]);
    }
    let last = operators.len().saturating_sub(1);
    // What is added for the sake of speed stays in proportion to the body, however loops are nested.
    let mut savings = operators.len();
    let mut nesting: u32 = 0;
    for (position, operator) in operators.into_iter().enumerate() {
        if let Some(charge) = charges.next_if(|charge| charge.position == position) {
            if is_flat {
                let global = emitter.gas_global;
                emitter.emit(&[
                    Instruction::GlobalGet(global),
                    gas_const(charge.gas),
                    Instruction::I64Sub,
                    Instruction::GlobalSet(global),
                ]);
            } else {
                let floats = floats.get(&position).into_iter().flatten().take(savings);
                let typed = floats.filter_map(|local| Some((*local, *local_types.get(*local as usize)?)));
                let saved = added.saved(typed);
                savings -= saved.len();
                emitter.charge(charge, &saved);
            }
        }
        if is_flat {
            emitter.emit(&[added.instruction(operator)?]);
            continue;
        }
        match &operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                nesting += 1;
                emitter.reload();
            }
            Operator::End if position == last && !is_wrapped => {
                emitter.leave();
            }
            Operator::End => {
                nesting = nesting.saturating_sub(1);
                emitter.reload();
            }
            Operator::Else | Operator::Br { .. } | Operator::BrIf { .. } | Operator::BrTable { .. } => {
                emitter.reload();
            }
            Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } | Operator::MemoryInit { .. } => {
                emitter.charge_bytes();
            }
            Operator::MemoryGrow { .. } => {
                emitter.grow(&added.instruction(operator)?);
                continue;
            }
            Operator::Call { function_index } if added.prepaid(*function_index).is_some() => {}
            Operator::Call { .. } | Operator::CallIndirect { .. } => {
                emitter.flush();
                emitter.is_stale = true;
            }
            Operator::Return => {
                emitter.reload();
                emitter.emit(&[Instruction::Br(nesting)]);
                continue;
            }
            _ => {}
        }
        emitter.emit(&[added.instruction(operator)?]);
    }
    if is_wrapped {
        emitter.leave();
        emitter.emit(&[Instruction::End]);
    }
    Ok((emitter.function, emitter.hints))
}
