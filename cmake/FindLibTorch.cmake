# Imports LibTorch without asking for a CUDA toolkit, which the find_package(Torch) of the CUDA wheel insists on.
#
# What is said is taken: LIBTORCH_ROOT and CMAKE_PREFIX_PATH (variables of CMake or of the environment; a prefix may end in
# torch/share/cmake, as torch.utils.cmake_prefix_path does), and Torch_DIR (torch/share/cmake/Torch). Else the first of these
# whose version is asked for: beside an installed x_transformers (PREFIX, PREFIX/libtorch), .deps/, where
# tools/install_deps.sh puts the wheel, and the torch of the Python that is active.
#
#   LibTorch::cpu   the library, its include folders and its C++ ABI
#   LibTorch::cuda  the CUDA half, if it is there (loaded only when a program asks for the device)
include(FindPackageHandleStandardArgs)

# The version of the LibTorch in `root`, which holds include/ and lib/; empty: there is none.
function(_libtorch_version root out)
  set(${out} "" PARENT_SCOPE)
  set(header "${root}/include/torch/headeronly/version.h")
  if(EXISTS "${header}" AND EXISTS "${root}/include/torch/csrc/api/include/torch/nn/module.h")
    file(STRINGS "${header}" parts REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX MATCHALL "[0-9]+" parts "${parts}")
    list(JOIN parts "." version)
    set(${out} "${version}" PARENT_SCOPE)
  endif()
endfunction()

# Whether this version is the one that is asked for.
function(_libtorch_fits version out)
  set(${out} TRUE PARENT_SCOPE)
  if(NOT version OR (LibTorch_FIND_VERSION_EXACT AND NOT version VERSION_EQUAL LibTorch_FIND_VERSION)
     OR (LibTorch_FIND_VERSION AND version VERSION_LESS LibTorch_FIND_VERSION))
    set(${out} FALSE PARENT_SCOPE)
  endif()
endfunction()

# The folder that holds torch/ of the Python that is active, without importing it; empty: there is none.
function(_libtorch_of_python out)
  set(${out} "" PARENT_SCOPE)
  find_program(_libtorch_python NAMES python3 python NO_CACHE)
  if(_libtorch_python)
    execute_process(COMMAND "${_libtorch_python}" -c
      "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    set(${out} "${folder}" PARENT_SCOPE)
  endif()
endfunction()

# `root` of the first of the folders ARGN, or of torch/ or libtorch/ in it, that holds a LibTorch; with `must_fit`, of the
# version that is asked for.
function(_libtorch_among must_fit out)
  set(${out} "" PARENT_SCOPE)
  foreach(folder IN LISTS ARGN)
    foreach(root "${folder}" "${folder}/torch" "${folder}/libtorch")
      _libtorch_version("${root}" version)
      _libtorch_fits("${version}" fits)
      if(version AND (fits OR NOT must_fit))
        get_filename_component(root "${root}" ABSOLUTE)
        set(${out} "${root}" PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()
endfunction()

file(TO_CMAKE_PATH "$ENV{CMAKE_PREFIX_PATH}" _prefixes)
list(APPEND _prefixes ${CMAKE_PREFIX_PATH})
list(TRANSFORM _prefixes APPEND "/../.." OUTPUT_VARIABLE _torch_of_prefixes)
set(_torch_dir "")
if(Torch_DIR)
  set(_torch_dir "${Torch_DIR}/../../..")
endif()
_libtorch_among(FALSE _libtorch_root ${LIBTORCH_ROOT} $ENV{LIBTORCH_ROOT} ${_prefixes} ${_torch_of_prefixes}
  ${_torch_dir})
if(NOT _libtorch_root)
  _libtorch_among(TRUE _libtorch_root ${x_transformers_PREFIX} "${PROJECT_SOURCE_DIR}/.deps")
endif()
if(NOT _libtorch_root)
  _libtorch_of_python(_libtorch_wheel)
  _libtorch_among(TRUE _libtorch_root ${_libtorch_wheel})
endif()

find_path(LibTorch_INCLUDE_DIR torch/csrc/api/include/torch/nn/module.h
  HINTS "${_libtorch_root}" PATH_SUFFIXES include)
foreach(_part torch_cpu c10 torch_cuda c10_cuda)
  string(REPLACE torch_ "" _name "${_part}")
  find_library(LibTorch_${_name}_LIBRARY ${_part} HINTS "${_libtorch_root}" PATH_SUFFIXES lib)
endforeach()
if(LibTorch_INCLUDE_DIR)
  get_filename_component(_libtorch_root "${LibTorch_INCLUDE_DIR}" DIRECTORY)
  _libtorch_version("${_libtorch_root}" LibTorch_VERSION)
endif()

find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_INCLUDE_DIR LibTorch_cpu_LIBRARY LibTorch_c10_LIBRARY VERSION_VAR LibTorch_VERSION
  # No semicolon: it would part the message.
  REASON_FAILURE_MESSAGE "Set LIBTORCH_ROOT to the folder of LibTorch ${LibTorch_FIND_VERSION} (it holds include/ and lib/), \
or add to CMAKE_PREFIX_PATH the folder that holds torch/ of a Python with torch==${LibTorch_FIND_VERSION} (or what \
python3 -c 'print(__import__(\"torch\").utils.cmake_prefix_path)' prints). In the repository tools/install_deps.sh fetches it.")

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
