#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "network.h"
