//! Metering of one function body.

use wasm_encoder::reencode::Reencode as _;
use wasm_encoder::{BlockType, Function, Instruction, TypeSection, ValType};
use wasmparser::{FunctionBody, Operator};

use super::Added;
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

/// A block, loop or `if` being open, and whether a branch ends at its end.
struct Frame {
    is_loop: bool,
    joins: bool,
}

/// Splits a body into stretches that run from their first instruction to their last or trap.
/// Calls do not split: what follows a call is paid before it.
fn charges(operators: &[Operator<'_>], is_entry_checked: bool) -> Vec<Charge> {
    let mut charges = Vec::new();
    let mut open = Charge { position: 0, gas: 0, is_checked: is_entry_checked };
    let mut frames = vec![Frame { is_loop: false, joins: true }];
    for (position, operator) in operators.iter().enumerate() {
        open.gas += operator::gas(operator);
        let mut branch = |depth: u32| {
            let frame = frames.iter_mut().rev().nth(depth as usize);
            if let Some(frame) = frame.filter(|frame| !frame.is_loop) {
                frame.joins = true;
            }
        };
        let splits = match operator {
            Operator::Block { .. } => {
                frames.push(Frame { is_loop: false, joins: false });
                false
            }
            Operator::Loop { .. } => {
                frames.push(Frame { is_loop: true, joins: false });
                true
            }
            Operator::If { .. } => {
                frames.push(Frame { is_loop: false, joins: true });
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
            Operator::Else | Operator::Return | Operator::Unreachable => true,
            Operator::End => frames.pop().is_none_or(|frame| frame.joins),
            _ => false,
        };
        if splits {
            charges.push(open);
            let is_checked = matches!(operator, Operator::Loop { .. });
            open = Charge { position: position + 1, gas: 0, is_checked };
        }
    }
    charges.retain(|charge| charge.gas > 0 || charge.is_checked);
    charges
}

/// Locals and indices that the added code of one function uses.
struct Emitter<'a> {
    function: Function,
    tick: u32,
    gas_global: u32,
    depth_global: u32,
    gas: u32,
    scratch: u32,
    result: u32,
    frame_slots: &'a i32,
}

impl Emitter<'_> {
    fn emit(&mut self, instructions: &[Instruction<'_>]) {
        for instruction in instructions {
            self.function.instruction(instruction);
        }
    }

    fn reload(&mut self) {
        self.emit(&[Instruction::GlobalGet(self.gas_global), Instruction::LocalSet(self.gas)]);
    }

    fn flush(&mut self) {
        self.emit(&[Instruction::LocalGet(self.gas), Instruction::GlobalSet(self.gas_global)]);
    }

    fn charge(&mut self, charge: Charge) {
        if charge.gas > 0 {
            let gas = i64::try_from(charge.gas).unwrap_or(i64::MAX);
            self.emit(&[
                Instruction::LocalGet(self.gas),
                Instruction::I64Const(gas),
                Instruction::I64Sub,
                Instruction::LocalSet(self.gas),
            ]);
        }
        if charge.is_checked {
            self.check();
        }
    }

    /// Calls the host if the slice is overdrawn.
    fn check(&mut self) {
        self.emit(&[
            Instruction::LocalGet(self.gas),
            Instruction::I64Const(0),
            Instruction::I64LtS,
            Instruction::If(BlockType::Empty),
        ]);
        self.flush();
        self.emit(&[Instruction::Call(self.tick)]);
        self.reload();
        self.emit(&[Instruction::End]);
    }

    fn enter(&mut self) {
        self.emit(&[
            Instruction::GlobalGet(self.depth_global),
            Instruction::I32Const(*self.frame_slots),
            Instruction::I32Sub,
            Instruction::LocalTee(self.scratch),
            Instruction::GlobalSet(self.depth_global),
            Instruction::LocalGet(self.scratch),
            Instruction::I32Const(0),
            Instruction::I32LtS,
            Instruction::If(BlockType::Empty),
            Instruction::Unreachable,
            Instruction::End,
        ]);
        self.reload();
    }

    fn leave(&mut self) {
        self.flush();
        self.emit(&[
            Instruction::GlobalGet(self.depth_global),
            Instruction::I32Const(*self.frame_slots),
            Instruction::I32Add,
            Instruction::GlobalSet(self.depth_global),
            Instruction::End,
        ]);
    }

    /// The operand on top is a length in bytes: pays for it before the operation runs.
    fn charge_bytes(&mut self) {
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
        self.check();
    }

    /// Grows memory and pays for the pages if that succeeds; a refused request is free, so that
    /// an allocator may probe.
    fn grow(&mut self, grow: &Instruction<'_>) {
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
        self.check();
    }
}

pub(super) fn transform(
    added: &mut Added<'_>,
    types: &mut TypeSection,
    body: &FunctionBody<'_>,
    defined: u32,
) -> Result<Function, ProfileError> {
    let facts = added.facts;
    let missing = || ProfileError::Invalid {
        offset: body.range().start as u64,
        message: "unknown function".to_owned(),
    };
    let ty = facts.function_type(facts.import_count() + defined).ok_or_else(missing)?;
    let slots = facts.frame_slots.get(defined as usize).ok_or_else(missing)?;
    let slots = i32::try_from(*slots).map_err(|_| missing())?;

    let mut locals = Vec::new();
    let mut local_count = u32::try_from(ty.params().len()).map_err(|_| missing())?;
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        locals.push((count, added.val_type(ty)?));
        local_count += count;
    }
    locals.push((1, ValType::I64));
    locals.push((2, ValType::I32));

    let operators: Vec<Operator<'_>> = body.get_operators_reader()?.into_iter().collect::<Result<_, _>>()?;
    let calls_or_loops = operators.iter().any(|operator| {
        matches!(operator, Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::Loop { .. })
    });

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

    let mut emitter = Emitter {
        function: Function::new(locals),
        tick: added.tick,
        gas_global: added.gas,
        depth_global: added.depth,
        gas: local_count,
        scratch: local_count + 1,
        result: local_count + 2,
        frame_slots: &slots,
    };
    emitter.enter();
    // One block around the body: a branch to the function's label ends there as it is, and so
    // does a `return` as a branch, so there is one way out.
    emitter.emit(&[Instruction::Block(block_type)]);
    let mut charges = charges(&operators, calls_or_loops).into_iter().peekable();
    let mut nesting: u32 = 0;
    for (position, operator) in operators.into_iter().enumerate() {
        if let Some(charge) = charges.next_if(|charge| charge.position == position) {
            emitter.charge(charge);
        }
        match &operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => nesting += 1,
            Operator::End => nesting = nesting.saturating_sub(1),
            Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } | Operator::MemoryInit { .. } => {
                emitter.charge_bytes();
            }
            Operator::Call { .. } | Operator::CallIndirect { .. } => emitter.flush(),
            Operator::Return => {
                emitter.emit(&[Instruction::Br(nesting)]);
                continue;
            }
            _ => {}
        }
        let is_call = matches!(operator, Operator::Call { .. } | Operator::CallIndirect { .. });
        let is_grow = matches!(operator, Operator::MemoryGrow { .. });
        let instruction = added.instruction(operator)?;
        if is_grow {
            emitter.grow(&instruction);
        } else {
            emitter.emit(&[instruction]);
        }
        if is_call {
            emitter.reload();
        }
    }
    emitter.leave();
    Ok(emitter.function)
}
