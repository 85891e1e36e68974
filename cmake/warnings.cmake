# Link rackmark::warnings (PRIVATE) into every target of ours.
add_library(rackmark_warnings INTERFACE)
add_library(rackmark::warnings ALIAS rackmark_warnings)
set(warnings -Wall -Wextra -Wpedantic -Wshadow=local -Wnon-virtual-dtor
             -Woverloaded-virtual -Wno-missing-field-initializers
             # What g++ 12 cries wolf at: "x" + std::string, and frames of Asio's coroutines (GCC bugs
             # 105651 and 109224).
             -Wno-restrict -Wno-mismatched-new-delete)
# In a unity build g++ takes the files that are put together for headers.
if(CMAKE_UNITY_BUILD)
  list(APPEND warnings -Wno-subobject-linkage)
endif()
# nvcc's own host code is not ours to warn about.
target_compile_options(rackmark_warnings INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${warnings}>")
