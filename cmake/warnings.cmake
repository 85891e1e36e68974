# Link rackmark::warnings (PRIVATE) into every target of ours.
add_library(rackmark_warnings INTERFACE)
add_library(rackmark::warnings ALIAS rackmark_warnings)
set(warnings -Wall -Wextra -Wpedantic -Wshadow=local -Wnon-virtual-dtor
             -Woverloaded-virtual -Wno-missing-field-initializers
             -Wno-restrict)  # g++ 12 cries wolf at "x" + std::string (GCC bug 105651)
# nvcc's own host code is not ours to warn about.
target_compile_options(rackmark_warnings INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${warnings}>")
