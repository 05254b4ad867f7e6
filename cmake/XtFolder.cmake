# One object library per folder of x_transformers/, so that a folder builds, and its tests link, without those above it.

add_library(xt_settings INTERFACE)
target_compile_features(xt_settings INTERFACE cxx_std_20)
target_include_directories(xt_settings INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>")
target_link_libraries(xt_settings INTERFACE nlohmann_json::nlohmann_json)
# Before LibTorch: both define the flag minloglevel, and sentencepiece's is the larger one.
target_link_libraries(xt_settings INTERFACE SentencePiece::SentencePiece LibTorch::cpu)
# The flag and not OpenMP::OpenMP_CXX: that names the compiler's own OpenMP library by its path, while LibTorch brings one.
target_compile_options(xt_settings INTERFACE ${OpenMP_CXX_FLAGS})
target_link_options(xt_settings INTERFACE ${OpenMP_CXX_FLAGS})

add_library(xt_private_settings INTERFACE)
# Header-only: LibTorch's include folder holds headers of another version of fmt than the machine's library.
target_link_libraries(xt_private_settings INTERFACE fmt::fmt-header-only)
target_compile_options(xt_private_settings INTERFACE -Wall -Wextra -Wno-unknown-pragmas $<$<BOOL:${XT_WERROR}>:-Werror>)
if(XT_SANITIZE)
  target_compile_options(xt_private_settings INTERFACE -fsanitize=address,undefined -fno-omit-frame-pointer)
  target_link_options(xt_private_settings INTERFACE -fsanitize=address,undefined)
endif()

# One precompiled header for everything: it holds other projects' headers only.
add_library(xt_precompiled OBJECT "${PROJECT_SOURCE_DIR}/cmake/precompiled.cpp")
target_link_libraries(xt_precompiled PRIVATE xt_settings xt_private_settings)
target_precompile_headers(xt_precompiled PRIVATE "${PROJECT_SOURCE_DIR}/cmake/precompiled.h")

function(xt_compile target)
  target_link_libraries(${target} PRIVATE xt_settings xt_private_settings)
  target_compile_options(${target} PRIVATE -fPIC) # programs too: the precompiled header was compiled with it
  target_precompile_headers(${target} REUSE_FROM xt_precompiled)
endfunction()

# Tests are not optimised, which halves the time to compile them; what they test is. They have a precompiled header of
# their own, as the level of optimisation is the header's too.
if(XT_TESTS)
  add_library(xt_precompiled_tests OBJECT "${PROJECT_SOURCE_DIR}/cmake/precompiled.cpp")
  target_link_libraries(xt_precompiled_tests PRIVATE xt_settings xt_private_settings)
  target_compile_options(xt_precompiled_tests PRIVATE -O0)
  target_precompile_headers(xt_precompiled_tests PRIVATE "${PROJECT_SOURCE_DIR}/cmake/precompiled.h")
endif()
function(xt_compile_test target)
  target_link_libraries(${target} PRIVATE xt_settings xt_private_settings)
  target_compile_options(${target} PRIVATE -fPIC -O0)
  target_precompile_headers(${target} REUSE_FROM xt_precompiled_tests)
endfunction()

set_property(GLOBAL PROPERTY XT_FOLDERS "")

# xt_folder(NAME DEPENDENCY...): the object library xt_NAME of x_transformers/NAME.
function(xt_folder name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/x_transformers/${name}/*.cpp")
  set_property(GLOBAL PROPERTY XT_DEPENDS_${name} ${ARGN})
  if(sources)
    add_library(xt_${name} OBJECT ${sources})
    xt_compile(xt_${name})
    if(name MATCHES "^(kernels|threads)$")
      # Of LibTorch only ATen/Parallel.h is in them, so no precompiled header, which would fix the level of optimisation too.
      set_target_properties(xt_${name} PROPERTIES DISABLE_PRECOMPILE_HEADERS ON UNITY_BUILD OFF)
      target_compile_options(xt_${name} PRIVATE $<$<CONFIG:Release>:-O3>)
    endif()
    set_property(GLOBAL APPEND PROPERTY XT_FOLDERS ${name})
  endif()
endfunction()

# The objects of a folder and of all those it may include, in `out`.
function(xt_objects out)
  get_property(built GLOBAL PROPERTY XT_FOLDERS)
  set(objects)
  foreach(name IN LISTS ARGN)
    get_property(depends GLOBAL PROPERTY XT_DEPENDS_${name})
    foreach(depended IN LISTS depends)
      get_property(further GLOBAL PROPERTY XT_DEPENDS_${depended})
      list(APPEND depends ${further})
    endforeach()
    foreach(part IN LISTS name depends)
      if(part IN_LIST built)
        list(APPEND objects $<TARGET_OBJECTS:xt_${part}>)
      endif()
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES objects)
  set(${out} ${objects} PARENT_SCOPE)
endfunction()

# The library that users link: x_transformers::x_transformers.
function(xt_library)
  get_property(built GLOBAL PROPERTY XT_FOLDERS)
  xt_objects(objects ${built})
  add_library(x_transformers STATIC ${objects})
  add_library(x_transformers::x_transformers ALIAS x_transformers)
  set_target_properties(x_transformers PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(x_transformers PUBLIC xt_settings)
endfunction()

# x_transformers::threads, for programs: x_transformers/threads in place of libgomp. It adds nothing where LibTorch asks its
# OpenMP for more than that has.
function(xt_thread_library)
  add_library(x_transformers_threads STATIC $<TARGET_OBJECTS:xt_threads>)
  add_library(x_transformers::threads ALIAS x_transformers_threads)
  set_target_properties(x_transformers_threads PROPERTIES LINKER_LANGUAGE CXX EXPORT_NAME threads)
  target_link_libraries(x_transformers_threads INTERFACE x_transformers)
  xt_missing_in_gomp(missing)
  set(XT_TEAMS OFF)
  if(missing)
    message(STATUS "Threads: libgomp's (${missing})")
  else()
    set(XT_TEAMS ON)
    # Before LibTorch is looked at, so that this is found first.
    target_link_options(x_transformers_threads INTERFACE "LINKER:--undefined=GOMP_parallel")
  endif()
  set(XT_TEAMS ${XT_TEAMS} PARENT_SCOPE)
endfunction()

# Why x_transformers/threads/gomp.cpp cannot stand in for libgomp below this LibTorch; empty: it can.
function(xt_missing_in_gomp out)
  set(library "${LibTorch_LIBRARY_DIR}/libtorch_cpu.so")
  if(NOT EXISTS "${library}" OR NOT CMAKE_NM)
    set(${out} "what LibTorch asks for cannot be listed" PARENT_SCOPE)
    return()
  endif()
  file(READ "${PROJECT_SOURCE_DIR}/x_transformers/threads/gomp.cpp" ours)
  execute_process(COMMAND "${CMAKE_NM}" -D --undefined-only "${library}" OUTPUT_VARIABLE asked ERROR_QUIET)
  string(REGEX MATCHALL " (GOMP|omp)_[a-z_]+" asked "${asked}")
  set(${out} "" PARENT_SCOPE)
  if(NOT asked)
    set(${out} "LibTorch has no OpenMP of GCC's" PARENT_SCOPE)
  endif()
  foreach(name IN LISTS asked)
    if(NOT ours MATCHES "${name}\\(")
      set(${out} "LibTorch asks for${name}" PARENT_SCOPE)
    endif()
  endforeach()
endfunction()

# Where a library that is loaded at run time lies, in the build and installed.
function(xt_place_plugin name)
  set_target_properties(x_transformers_${name} PROPERTIES
    LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}" CXX_VISIBILITY_PRESET hidden LINKER_LANGUAGE CXX)
  # Programs in the build folder and below it look there (core/plugin.h); those of a project that adds this one are
  # told of the folder, as those of a project that uses an installed one are (cmake/XtInstall.cmake).
  if(PROJECT_IS_TOP_LEVEL)
    include(GNUInstallDirs)
    set_target_properties(x_transformers_${name} PROPERTIES BUILD_WITH_INSTALL_RPATH ON)
    install(TARGETS x_transformers_${name} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
  else()
    target_link_options(x_transformers INTERFACE "LINKER:-rpath,${PROJECT_BINARY_DIR}")
  endif()
endfunction()

# xt_mpi_plugin(NAME DEPENDENCY...): libx_transformers_NAME.so of x_transformers/NAME, with MPI and without LibTorch. It uses
# plain headers of its dependencies.
function(xt_mpi_plugin name)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/x_transformers/${name}/*.cpp")
  add_library(x_transformers_${name} SHARED ${sources})
  target_include_directories(x_transformers_${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_definitions(x_transformers_${name} PRIVATE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
  target_compile_options(x_transformers_${name} PRIVATE -Wall -Wextra $<$<BOOL:${XT_WERROR}>:-Werror>)
  target_link_libraries(x_transformers_${name} PRIVATE MPI::MPI_CXX)
  # MPI may lie where the system does not look.
  set_target_properties(x_transformers_${name} PROPERTIES UNITY_BUILD OFF INSTALL_RPATH_USE_LINK_PATH ON)
  xt_place_plugin(${name})
endfunction()

# xt_plugin(NAME DEPENDENCY...): libx_transformers_NAME.so of x_transformers/NAME and of the kernels in kernels/NAME, with
# CUDA. It uses the headers of its dependencies and none of their objects.
function(xt_plugin name)
  find_package(CUDAToolkit REQUIRED)
  if(NOT TARGET LibTorch::cuda)
    message(FATAL_ERROR "XT_CUDA: the LibTorch in ${LibTorch_LIBRARY_DIR} has no CUDA half")
  endif()
  # Kernels know raw pointers and CUDA: no header of LibTorch, and so none of its settings.
  file(GLOB_RECURSE kernels CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/x_transformers/kernels/${name}/*.cu")
  add_library(xt_kernels_${name} OBJECT ${kernels})
  target_include_directories(xt_kernels_${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_options(xt_kernels_${name} PRIVATE -Xcompiler=-Wall,-Wextra $<$<CONFIG:Release>:-O3>
    $<$<BOOL:${XT_WERROR}>:-Werror=all-warnings> $<$<BOOL:${XT_WERROR}>:-Xcompiler=-Werror>)
  set_target_properties(xt_kernels_${name} PROPERTIES UNITY_BUILD OFF CUDA_VISIBILITY_PRESET hidden
    CUDA_STANDARD 17 CUDA_EXTENSIONS OFF) # CMake before 3.27 knows no C++20 of newer nvcc

  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/x_transformers/${name}/*.cpp")
  add_library(x_transformers_${name} SHARED ${sources} $<TARGET_OBJECTS:xt_kernels_${name}>)
  target_include_directories(x_transformers_${name} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(x_transformers_${name} PRIVATE LibTorch::cuda CUDA::cudart CUDA::cublasLt xt_settings
    xt_private_settings)
  # Optional: without these headers, attention with further stages has LibTorch's engines alone.
  find_path(XT_CUDNN_INCLUDE cudnn.h HINTS "${PROJECT_SOURCE_DIR}/.deps/nvidia/cudnn/include")
  find_path(XT_CUDNN_FRONTEND_INCLUDE cudnn_frontend.h HINTS "${PROJECT_SOURCE_DIR}/.deps/include")
  if(XT_CUDNN_INCLUDE AND XT_CUDNN_FRONTEND_INCLUDE)
    target_include_directories(x_transformers_${name} SYSTEM PRIVATE ${XT_CUDNN_INCLUDE} ${XT_CUDNN_FRONTEND_INCLUDE})
    target_compile_definitions(x_transformers_${name} PRIVATE XT_CUDNN_FRONTEND=1
      NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING CUDNN_FRONTEND_SKIP_JSON_LIB)
  else()
    message(STATUS "No headers of cuDNN and its frontend: attention with further stages is built without them")
  endif()
  # Optional: without this header, GPUs cannot be joined. The library is that which LibTorch loads.
  find_path(XT_NCCL_INCLUDE nccl.h HINTS "${PROJECT_SOURCE_DIR}/.deps/nvidia/nccl/include"
    "${LibTorch_LIBRARY_DIR}/../../nvidia/nccl/include")
  if(XT_NCCL_INCLUDE)
    target_include_directories(x_transformers_${name} SYSTEM PRIVATE ${XT_NCCL_INCLUDE})
    target_compile_definitions(x_transformers_${name} PRIVATE XT_NCCL=1)
  else()
    message(STATUS "No header of NCCL: GPUs cannot be joined")
  endif()
  xt_place_plugin(${name})
endfunction()
