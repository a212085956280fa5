//! A module taken apart, to be put together again with more in it.

use core::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BranchHints, CodeSection, DataCountSection, DataSection, ElementSection, ExportSection, FunctionSection,
    GlobalSection, ImportSection, MemorySection, Module, StartSection, TableSection, TypeSection,
};
use wasmparser::{FunctionBody, Parser, Payload};

/// The sections of a module in the order of the format; its custom ones are left out.
#[derive(Default)]
pub(crate) struct Sections {
    pub(crate) types: TypeSection,
    pub(crate) imports: ImportSection,
    pub(crate) functions: FunctionSection,
    pub(crate) tables: TableSection,
    pub(crate) memories: MemorySection,
    pub(crate) globals: GlobalSection,
    pub(crate) exports: ExportSection,
    pub(crate) start: Option<u32>,
    pub(crate) elements: ElementSection,
    data_count: Option<DataCountSection>,
    pub(crate) hints: BranchHints,
    pub(crate) code: CodeSection,
    pub(crate) data: DataSection,
}

impl Sections {
    /// Everything but the bodies of the functions, which follow as they are.
    pub(crate) fn read<'a>(
        to: &mut impl Reencode<Error = Infallible>,
        wasm: &'a [u8],
    ) -> Result<(Self, Vec<FunctionBody<'a>>), Error> {
        let mut out = Self::default();
        let mut bodies = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(s) => utils::parse_type_section(to, &mut out.types, s)?,
                Payload::ImportSection(s) => utils::parse_import_section(to, &mut out.imports, s)?,
                Payload::FunctionSection(s) => utils::parse_function_section(to, &mut out.functions, s)?,
                Payload::TableSection(s) => utils::parse_table_section(to, &mut out.tables, s)?,
                Payload::MemorySection(s) => utils::parse_memory_section(to, &mut out.memories, s)?,
                Payload::GlobalSection(s) => utils::parse_global_section(to, &mut out.globals, s)?,
                Payload::ExportSection(s) => utils::parse_export_section(to, &mut out.exports, s)?,
                Payload::ElementSection(s) => utils::parse_element_section(to, &mut out.elements, s)?,
                Payload::DataCountSection { count, .. } => out.data_count = Some(DataCountSection { count }),
                Payload::DataSection(s) => utils::parse_data_section(to, &mut out.data, s)?,
                Payload::StartSection { func, .. } => out.start = Some(to.function_index(func)?),
                Payload::CodeSectionEntry(body) => bodies.push(body),
                _ => {}
            }
        }
        Ok((out, bodies))
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions);
        module.section(&self.tables).section(&self.memories).section(&self.globals);
        module.section(&self.exports);
        if let Some(function_index) = self.start {
            module.section(&StartSection { function_index });
        }
        module.section(&self.elements);
        if let Some(data_count) = &self.data_count {
            module.section(data_count);
        }
        if !self.hints.is_empty() {
            module.section(&self.hints);
        }
        module.section(&self.code).section(&self.data);
        module.finish()
    }
}
