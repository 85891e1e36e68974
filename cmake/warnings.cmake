# Link rackmark::warnings (PRIVATE) into every target of ours.
add_library(rackmark_warnings INTERFACE)
add_library(rackmark::warnings ALIAS rackmark_warnings)
target_compile_options(rackmark_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow=local -Wnon-virtual-dtor
                                                   -Woverloaded-virtual -Wno-missing-field-initializers
                                                   -Wno-restrict)  # g++ 12 cries wolf at "x" + std::string (GCC bug 105651)
