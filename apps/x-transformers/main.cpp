#include <string>

#include "apps/x-transformers/commands.h"

int main(int argc, char** argv) { return x_transformers::run_program({argv + 1, argv + argc}); }
