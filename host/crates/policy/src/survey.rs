use wasmparser::{ComponentInstance, FunctionBody, Instance, Operator, Parser, Payload};

use crate::load::LoadError;

/// What can be known of a component without compiling it, which is what costs.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Names of what the component imports.
    pub(crate) imports: Vec<String>,
    /// Names of what it exports.
    pub(crate) exports: Vec<String>,
    /// Bytes of memory that its modules begin with.
    pub(crate) memory: u64,
    /// Bytes of code.
    code: u64,
    /// See [`variables_by_blocks`].
    tangle: u64,
    tightest_tangle: u64,
}

/// Contracts have a handful of interfaces, and WASI two dozen.
const MOST_IMPORTS: usize = 200;

/// Components and modules within each other. Toolchains make two levels; what holds a hundred thousand takes the compiler
/// all the memory that there is.
const MOST_NESTED: usize = 20;

/// Instances, in a component and all that it is made of. A component that has two of another one, of which there are two,
/// has four, and so on: a line more in its text is twice as much to the compiler. Python's interpreter has 30.
const MOST_INSTANCES: usize = 1000;

/// What compiling takes is about linear in the code, except that registers for each variable are looked for in each
/// block: the compiler's time for one function grows with the product, and some kilobytes can take it minutes. The
/// largest function of Python's interpreter has 70,000, that of Firefox's 200,000, and a million takes some seconds.
const MOST_TANGLED: u64 = 500_000;
const MOST_TANGLED_IN_ALL: u64 = 8_000_000;

/// Bytes of memory that compiling takes for each byte of code: measured 50 for the interpreters of JavaScript and
/// Python.
const MEMORY_BY_CODE: u64 = 60;

impl Survey {
    /// Reads a whole component. Its code is looked at and not checked.
    pub(crate) fn of(wasm: &[u8]) -> Result<Self, LoadError> {
        let mut survey = Self::default();
        let mut nest = Nest::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => nest.begin()?,
                Payload::End(_) => nest.end()?,
                Payload::ComponentImportSection(section) if nest.is_outermost() => {
                    if survey.imports.len() + section.count() as usize > MOST_IMPORTS {
                        return Err(LoadError::TooMuch(format!("imports more than {MOST_IMPORTS} things")));
                    }
                    for import in section {
                        survey.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if nest.is_outermost() => {
                    for export in section {
                        survey.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::ComponentInstanceSection(section) => {
                    for instance in section {
                        nest.current().components +=
                            usize::from(matches!(instance?, ComponentInstance::Instantiate { .. }));
                    }
                }
                Payload::InstanceSection(section) => {
                    for instance in section {
                        nest.current().modules += usize::from(matches!(instance?, Instance::Instantiate { .. }));
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory?;
                        let page = 1_u64 << memory.page_size_log2.unwrap_or(16).min(16);
                        survey.memory = survey.memory.saturating_add(memory.initial.saturating_mul(page));
                    }
                }
                Payload::CodeSectionEntry(body) => survey.add(&body)?,
                _ => {}
            }
        }
        if survey.tightest_tangle > MOST_TANGLED || survey.tangle > MOST_TANGLED_IN_ALL {
            let words = "has functions with too many variables and blocks to be compiled";
            return Err(LoadError::TooMuch(words.to_owned()));
        }
        Ok(survey)
    }

    /// Bytes of memory that compiling is expected to take.
    pub(crate) fn memory_to_compile(&self, size: usize) -> u64 {
        // The component, its copy for the compiler, and the images of its memories.
        self.code.saturating_mul(MEMORY_BY_CODE).saturating_add(size as u64 * 3)
    }

    fn add(&mut self, body: &FunctionBody<'_>) -> Result<(), LoadError> {
        self.code += body.range().len() as u64;
        let tangle = variables_by_blocks(body)?;
        self.tangle = self.tangle.saturating_add(tangle);
        self.tightest_tangle = self.tightest_tangle.max(tangle);
        Ok(())
    }
}

/// The components and modules that are being read, from the outermost in.
#[derive(Default)]
struct Nest {
    levels: Vec<Level>,
    /// The most instances that a component has of those that were read.
    heaviest: usize,
}

/// What is instantiated in one component.
#[derive(Default)]
struct Level {
    components: usize,
    modules: usize,
}

impl Nest {
    fn is_outermost(&self) -> bool {
        self.levels.len() <= 1
    }

    /// The level that is being read. The outermost begins without being announced.
    fn current(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn begin(&mut self) -> Result<(), LoadError> {
        self.current();
        if self.levels.len() > MOST_NESTED {
            return Err(LoadError::TooMuch(format!("has components within components, more than {MOST_NESTED} deep")));
        }
        self.levels.push(Level::default());
        Ok(())
    }

    /// Components can only have instances of those that ended before them. It is taken that they are of the heaviest.
    fn end(&mut self) -> Result<(), LoadError> {
        let level = self.levels.pop().unwrap_or_default();
        let weight = level.components.saturating_mul(self.heaviest).saturating_add(level.modules).saturating_add(1);
        if weight > MOST_INSTANCES {
            return Err(LoadError::TooMuch(format!("has more than {MOST_INSTANCES} instances of its parts")));
        }
        self.heaviest = self.heaviest.max(weight);
        Ok(())
    }
}

/// The number of a function's local variables, times the number of its blocks.
fn variables_by_blocks(body: &FunctionBody<'_>) -> Result<u64, LoadError> {
    let mut variables = 0_u64;
    for local in body.get_locals_reader()? {
        variables += u64::from(local?.0);
    }
    let mut blocks = 0_u64;
    for operator in body.get_operators_reader()? {
        blocks += u64::from(matches!(operator?, Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. }));
    }
    Ok(variables * blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(text: &str) -> Result<Survey, LoadError> {
        Survey::of(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn names_are_those_of_the_component_and_not_of_what_is_in_it() {
        let survey = survey(
            r#"(component
                 (import "a:b/c@1.0.0" (instance $i))
                 (component (import "inner" (func)))
                 (core module (import "m" "f" (func)) (memory 2) (memory 3))
                 (export "d:e/f@1.0.0" (instance $i)))"#,
        )
        .unwrap();
        assert_eq!((survey.imports, survey.exports), (vec!["a:b/c@1.0.0".to_owned()], vec!["d:e/f@1.0.0".to_owned()]));
        assert_eq!(survey.memory, 5 << 16);
    }

    #[test]
    fn instances_are_counted_as_the_compiler_will() {
        let doubled = |times: usize| {
            let inner = "(core module $m) (core instance (instantiate $m))".to_owned();
            let component = (0..times).fold(inner, |inner, _| {
                format!("(component $c {inner}) (instance (instantiate $c)) (instance (instantiate $c))")
            });
            survey(&format!("(component {component})"))
        };
        // Each is two of the one before, and itself.
        assert!(doubled(8).is_ok());
        let error = doubled(9).unwrap_err();
        assert!(matches!(&error, LoadError::TooMuch(words) if words.contains("instances of its parts")), "{error}");
    }

    #[test]
    fn a_thousand_variables_in_a_thousand_loops_are_not_compiled() {
        let function = |variables: usize, loops: usize| {
            let (variables, begin, end) = ("i32 ".repeat(variables), "(loop ".repeat(loops), ")".repeat(loops));
            format!("(component (core module (func (local {variables}) {begin} {end})))")
        };
        assert!(survey(&function(100, 1000)).is_ok());
        let error = survey(&function(1000, 1000)).unwrap_err();
        assert!(matches!(&error, LoadError::TooMuch(words) if words.contains("too many variables")), "{error}");
    }
}
