# embed_migrations(OUTPUT): writes migrations/NNNN_*.sql into one C++ source at configure time.
function(embed_migrations output)
  file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/migrations/[0-9]*.sql)
  list(SORT files)
  set(rows "")
  foreach(file IN LISTS files)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    get_filename_component(name ${file} NAME)
    string(REGEX MATCH "^0*([0-9]+)_" unused ${name})
    set(number ${CMAKE_MATCH_1})
    file(READ ${file} sql)
    string(APPEND rows "    {${number}, \"${name}\", R\"sql(${sql})sql\"},\n")
  endforeach()
  file(CONFIGURE OUTPUT ${output} @ONLY CONTENT [=[// Made from migrations/*.sql by cmake/embed_migrations.cmake.
#include "controller/store/migrate.hpp"

namespace rackmark::store {

std::span<const Migration> embedded_migrations() {
  static const Migration steps[] = {
@rows@  };
  return steps;
}

}  // namespace rackmark::store
]=])
endfunction()
