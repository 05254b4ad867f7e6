# Installs the library, its headers, the program, and a package: find_package(x_transformers) then works elsewhere.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(_package "${CMAKE_INSTALL_LIBDIR}/cmake/x_transformers")

set_target_properties(xt_settings PROPERTIES EXPORT_NAME settings)
# Where programs of others find what is loaded at run time, such as libx_transformers_cuda.so.
target_link_options(x_transformers INTERFACE "$<INSTALL_INTERFACE:LINKER:-rpath,$<INSTALL_PREFIX>/${CMAKE_INSTALL_LIBDIR}>")
install(TARGETS x_transformers x_transformers_threads xt_settings EXPORT x_transformersTargets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT x_transformersTargets NAMESPACE x_transformers:: DESTINATION "${_package}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/x_transformers" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")

# The installed program finds LibTorch where the built one does: LibTorch::cpu carries that path; and beside bin/ what is
# loaded at run time.
set_target_properties(x-transformers PROPERTIES BUILD_WITH_INSTALL_RPATH ON
  INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
install(TARGETS x-transformers RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/x_transformersConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/cmake/x_transformersConfig.cmake" INSTALL_DESTINATION "${_package}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/cmake/x_transformersConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/cmake/x_transformersConfig.cmake"
  "${PROJECT_BINARY_DIR}/cmake/x_transformersConfigVersion.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/FindLibTorch.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/FindSentencePiece.cmake" DESTINATION "${_package}")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
