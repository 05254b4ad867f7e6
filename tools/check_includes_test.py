"""python3 -m unittest tools/check_includes_test.py"""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parent / "check_includes.py"
sys.path.insert(0, str(TOOL.parent))
import check_includes  # noqa: E402

CMAKE = """
xt_folder(core)
xt_folder(kernels)  # xt_folder(comment)
xt_folder(ops core kernels)
xt_folder(nn
          core ops)
if(XT_CUDA)
  xt_plugin(cuda core)
endif()
"""


class CheckIncludes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("CMakeLists.txt", CMAKE)
        self.write("x_transformers/core/a.h", "#pragma once\n#include <string>\n")
        self.write("x_transformers/ops/b.h", '#pragma once\n#include "x_transformers/core/a.h"\n')

    def write(self, path, text):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def findings(self):
        return check_includes.check_tree(self.root)

    def expect_one(self, *parts):
        found = self.findings()
        self.assertEqual(len(found), 1, found)
        for part in parts:
            self.assertIn(part, found[0])

    def test_a_clean_tree_has_no_finding(self):
        self.assertEqual(self.findings(), [])

    def test_the_table_is_read_from_cmake(self):
        self.assertEqual(check_includes.folder_table(CMAKE),
                         {"core": set(), "kernels": set(), "ops": {"core", "kernels"}, "nn": {"core", "ops"},
                          "cuda": {"core"}})

    def test_a_folder_may_list_only_folders_above_it(self):
        self.write("CMakeLists.txt", "xt_folder(core ops)\nxt_folder(ops core)\n")
        self.expect_one("xt_folder(core) lists ops")

    def test_upward_include(self):
        self.write("x_transformers/core/up.h", '#pragma once\n\n#include "x_transformers/ops/b.h"\n')
        self.expect_one("x_transformers/core/up.h:3:", "core may include nothing of ours")

    def test_upward_include_in_angle_brackets(self):
        self.write("x_transformers/core/up.cpp", "#include <x_transformers/ops/b.h>\n")
        self.expect_one("core may include nothing of ours")

    def test_commented_include_does_not_count(self):
        self.write("x_transformers/core/up.h", '#pragma once\n// #include "x_transformers/ops/b.h"\n'
                                               '/*\n#include "x_transformers/ops/b.h"\n*/\n')
        self.assertEqual(self.findings(), [])

    def test_a_field_list_outside_a_header_of_options(self):
        options = ("struct Inner {\n  int size = 1;\n};\n\nstruct OuterOptions {\n  int size = 1;\n\n  template <class Visitor>\n"
                   "  void fields(Visitor& v) {\n    v(\"size\", size, \"how many\");\n  }\n};\n")
        self.write("x_transformers/nn/d_options.h", "#pragma once\n" + options)
        self.write("x_transformers/core/d.h", "#pragma once\n" + options)
        self.write("x_transformers/nn/d.h", "#pragma once\nstruct PlainOptions {\n  int size = 1;\n};\n")
        self.assertEqual(self.findings(), [])
        self.write("x_transformers/nn/d.h", "#pragma once\n" + options)
        self.expect_one("x_transformers/nn/d.h:6:", "OuterOptions")

    def test_line_after_a_block_comment(self):
        self.write("x_transformers/core/up.cpp", '/*\n\n*/\n#include "x_transformers/ops/b.h"\n')
        self.expect_one("up.cpp:4:")

    def test_folder_without_a_table_line(self):
        self.write("x_transformers/extra/c.h", "#pragma once\n")
        self.expect_one("x_transformers/extra/c.h", "no xt_folder line")

    def test_circle(self):
        self.write("x_transformers/ops/c.h", '#pragma once\n#include "x_transformers/ops/d.h"\n')
        self.write("x_transformers/ops/d.h", '#pragma once\n#include "x_transformers/ops/c.h"\n')
        self.expect_one("a circle of includes: x_transformers/ops/c.h > x_transformers/ops/d.h > x_transformers/ops/c.h")

    def test_two_ways_to_one_header_are_no_circle(self):
        self.write("x_transformers/ops/c.h",
                   '#pragma once\n#include "x_transformers/core/a.h"\n#include "x_transformers/ops/b.h"\n')
        self.assertEqual(self.findings(), [])

    def test_whole_torch(self):
        self.write("x_transformers/nn/c.cpp", "#include <torch/torch.h>\n")
        self.expect_one("<torch/torch.h>")

    def test_apps_may_include_whole_torch_and_each_other(self):
        self.write("apps/x-transformers/main.cpp", '#include <torch/torch.h>\n#include "train.h"\n')
        self.assertEqual(self.findings(), [])

    def test_modules_in_ops_headers(self):
        self.write("x_transformers/ops/c.h", "#pragma once\n#include <torch/nn/module.h>\n")
        self.expect_one("headers of ops")

    def test_modules_in_ops_sources_are_allowed(self):
        self.write("x_transformers/ops/c.cpp", "#include <torch/nn/functional/loss.h>\n")
        self.assertEqual(self.findings(), [])

    def test_headers_of_options_include_no_modules(self):
        self.write("x_transformers/nn/c_options.h",
                   '#pragma once\n#include <cstdint>\n#include "x_transformers/core/a.h"\n')
        self.write("x_transformers/nn/d.h", '#pragma once\n#include "x_transformers/nn/c_options.h"\n')
        self.write("x_transformers/nn/d_options.h", '#pragma once\n#include "x_transformers/nn/c_options.h"\n')
        self.assertEqual(self.findings(), [])
        self.write("x_transformers/nn/e_options.h", '#pragma once\n#include "x_transformers/nn/d.h"\n')
        self.expect_one("nn/e_options.h:2:", "headers of options")

    def test_torch_modules_in_headers_of_options(self):
        self.write("x_transformers/nn/c_options.h", "#pragma once\n#include <torch/nn/module.h>\n")
        self.expect_one("nn/c_options.h:2:", "headers of options")

    def test_json_and_fmt_stay_out_of_headers(self):
        self.write("x_transformers/core/c.h", "#pragma once\n#include <nlohmann/json.hpp>\n")
        self.write("x_transformers/core/d.h", "#pragma once\n#include <nlohmann/json_fwd.hpp>\n")
        self.write("x_transformers/core/e.cpp", "#include <fmt/format.h>\n#include <nlohmann/json.hpp>\n")
        self.write("x_transformers/core/json.h", "#pragma once\n#include <nlohmann/json.hpp>\n")
        self.expect_one("core/c.h:2:", "nlohmann/json.hpp")

    def test_pragma_once(self):
        self.write("x_transformers/core/c.h", "\n")
        self.expect_one("core/c.h: no #pragma once")

    def test_own_headers_by_their_path(self):
        self.write("x_transformers/core/c.cpp", '#include "a.h"\n')
        self.expect_one('"a.h"')

    def test_header_that_does_not_exist(self):
        self.write("x_transformers/core/c.cpp", '#include "x_transformers/core/gone.h"\n')
        self.expect_one("gone.h does not exist")

    def test_umbrella_is_for_users(self):
        self.write("x_transformers/x_transformers.h", '#pragma once\n#include "x_transformers/ops/b.h"\n')
        self.assertEqual(self.findings(), [])
        self.write("x_transformers/nn/c.cpp", '#include "x_transformers/x_transformers.h"\n')
        self.expect_one("for users")

    def test_library_does_not_include_apps(self):
        self.write("x_transformers/core/c.cpp", '#include "apps/x-transformers/train.h"\n')
        self.expect_one("outside the library")

    def test_device_code(self):
        self.write("x_transformers/kernels/cuda/device/c.cuh",
                   '#pragma once\n#include <cuda_bf16.h>\n#include <cute/tensor.hpp>\n#include <cstdint>\n'
                   '#include "x_transformers/kernels/cuda/device/d.cuh"\n')
        self.write("x_transformers/kernels/cuda/device/d.cuh", "#pragma once\n#include <ATen/ATen.h>\n")
        self.expect_one("device/d.cuh:2:", "ATen/ATen.h")

    def test_exit_code_and_output(self):
        run = [sys.executable, str(TOOL), "--root", str(self.root)]
        clean = subprocess.run(run, capture_output=True, text=True)
        self.assertEqual((clean.returncode, clean.stdout), (0, ""))
        self.write("x_transformers/core/c.h", "\n")
        dirty = subprocess.run(run, capture_output=True, text=True)
        self.assertEqual((dirty.returncode, dirty.stdout), (1, "x_transformers/core/c.h: no #pragma once\n"))

    def test_headers_compile_alone(self):
        self.write("build/compile_commands.json",
                   '[{"file": "/r/x_transformers/core/a.cpp", "directory": "/r/build",'
                   f'  "command": "/usr/bin/ccache c++ -O2 -I{self.root} -std=c++20 -include pch.h -c a.cpp"}}]')
        self.write("x_transformers/core/c.h", "#pragma once\nstd::string name();\n")
        found = check_includes.check_headers_alone(self.root, self.root / "build", 2)
        self.assertEqual(len(found), 1, found)
        self.assertIn("core/c.h: does not compile alone", found[0])


if __name__ == "__main__":
    unittest.main()
