// Included before the instruction set is chosen: a function of the standard library that was compiled for a newer
// processor could be the copy that the linker gives to everybody.
#pragma once
#include <atomic>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <vector>
