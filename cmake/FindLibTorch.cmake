# Imports LibTorch without asking for a CUDA toolkit, which the find_package(Torch) of the CUDA wheel insists on.
# Looks at LIBTORCH_ROOT and CMAKE_PREFIX_PATH (variables of CMake or of the environment; a prefix may end in
# torch/share/cmake), at the LibTorch that an installed x_transformers was built with, and at .deps/, where
# tools/install_deps.sh puts the wheel.
#
#   LibTorch::cpu   the library, its include folders and its C++ ABI
#   LibTorch::cuda  the CUDA half, if it is there (loaded only when a program asks for the device)
include(FindPackageHandleStandardArgs)

file(TO_CMAKE_PATH "$ENV{CMAKE_PREFIX_PATH}" _prefixes)
list(APPEND _prefixes ${CMAKE_PREFIX_PATH})
list(TRANSFORM _prefixes APPEND "/../.." OUTPUT_VARIABLE _torch_of_prefixes)
set(_libtorch_hints ${LIBTORCH_ROOT} $ENV{LIBTORCH_ROOT} ${_prefixes} ${_torch_of_prefixes} ${x_transformers_LIBTORCH}
  ${PROJECT_SOURCE_DIR}/.deps)
find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/nn/module.h
  HINTS ${_libtorch_hints} PATH_SUFFIXES include torch/include libtorch/include)
find_library(LibTorch_cpu_LIBRARY torch_cpu HINTS ${_libtorch_hints} PATH_SUFFIXES lib torch/lib libtorch/lib)
find_library(LibTorch_c10_LIBRARY c10 HINTS ${_libtorch_hints} PATH_SUFFIXES lib torch/lib libtorch/lib)
find_library(LibTorch_cuda_LIBRARY torch_cuda HINTS ${_libtorch_hints} PATH_SUFFIXES lib torch/lib libtorch/lib)
find_library(LibTorch_c10_cuda_LIBRARY c10_cuda HINTS ${_libtorch_hints} PATH_SUFFIXES lib torch/lib libtorch/lib)

set(_version_header "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h")
if(EXISTS "${_version_header}")
  file(STRINGS "${_version_header}" _parts REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX MATCHALL "[0-9]+" _parts "${_parts}")
  list(JOIN _parts "." LibTorch_VERSION)
endif()

find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_INCLUDE_DIR LibTorch_cpu_LIBRARY LibTorch_c10_LIBRARY VERSION_VAR LibTorch_VERSION)

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  get_filename_component(LibTorch_LIBRARY_DIR "${LibTorch_cpu_LIBRARY}" DIRECTORY)
  # The wheel keeps the CUDA run-time libraries that libtorch_cpu needs beside the torch folder.
  file(GLOB LibTorch_NVIDIA_DIRS "${LibTorch_LIBRARY_DIR}/../../nvidia/*/lib")
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  target_include_directories(LibTorch::cpu SYSTEM INTERFACE
    "${LibTorch_INCLUDE_DIR}" "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  target_link_libraries(LibTorch::cpu INTERFACE "${LibTorch_cpu_LIBRARY}" "${LibTorch_c10_LIBRARY}")
  # LibTorch was built with it, and without it classes in its headers (RecordFunction) have members that LibTorch's have not.
  target_compile_definitions(LibTorch::cpu INTERFACE NDEBUG)
  foreach(_dir IN LISTS LibTorch_LIBRARY_DIR LibTorch_NVIDIA_DIRS)
    target_link_options(LibTorch::cpu INTERFACE "LINKER:-rpath-link,${_dir}" "LINKER:-rpath,${_dir}")
  endforeach()
  if(LibTorch_cuda_LIBRARY)
    add_library(LibTorch::cuda INTERFACE IMPORTED)
    target_link_libraries(LibTorch::cuda INTERFACE LibTorch::cpu "${LibTorch_cuda_LIBRARY}" "${LibTorch_c10_cuda_LIBRARY}")
  endif()
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_cuda_LIBRARY
  LibTorch_c10_cuda_LIBRARY)
