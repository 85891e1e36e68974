# cmake -DSOURCE_DIR=... -DOUTPUT=... -DCOMPILER=... -DFLAGS=... -P engine_revision.cmake
#
# Writes a header with the engine revision: the first 12 hex digits of the SHA-256 over everything that
# can change a measured number, which is the worker's and the measurement code's sources with compiler
# and flags. Documentation, services and tests are not in it, so a changed README splits no series.
# Runs at every build and touches the header only when the revision has changed.
set(files)
foreach(folder worker/models worker/net worker/backend worker/collective worker/train worker/infer worker/input worker/measure
        common/measure common/gpu common/host)
  file(GLOB_RECURSE found RELATIVE ${SOURCE_DIR} ${SOURCE_DIR}/${folder}/*.cpp ${SOURCE_DIR}/${folder}/*.hpp
       ${SOURCE_DIR}/${folder}/*.inc ${SOURCE_DIR}/${folder}/*.cu ${SOURCE_DIR}/${folder}/*.cuh
       ${SOURCE_DIR}/${folder}/CMakeLists.txt)
  list(APPEND files ${found})
endforeach()
list(SORT files)

set(digests "${COMPILER}\n${FLAGS}\n")
foreach(file IN LISTS files)
  file(SHA256 ${SOURCE_DIR}/${file} digest)
  string(APPEND digests "${file} ${digest}\n")
endforeach()
string(SHA256 revision "${digests}")
string(SUBSTRING ${revision} 0 12 revision)

set(header "#pragma once\n#define RACKMARK_ENGINE_REVISION \"${revision}\"\n")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} before)
endif()
if(NOT "${before}" STREQUAL "${header}")
  file(WRITE ${OUTPUT} "${header}")
endif()
