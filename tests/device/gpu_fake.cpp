// A device that is no CPU, for Paddle's stock CPU wheels: the place is "gpu_fake:0", its memory is the host's.
//
// Paddle's custom device interface (paddle/phi/backends/device_ext.h) asks for a runtime of memory, copies, streams and
// events, and for those kernels that Paddle cannot fall back from. Every other kernel runs as Paddle's CPU kernel on copies of
// its inputs, so results are the CPU's while every branch of the library for another device is taken.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "paddle/phi/backends/device_ext.h"
#include "paddle/phi/capi/all.h"

namespace {

// ---- runtime: every call is synchronous, so streams and events need not exist ----

int current_device = 0;

C_Status nothing() { return C_SUCCESS; }
C_Status device_nothing(const C_Device) { return C_SUCCESS; }
C_Status set_device(const C_Device device) {
  current_device = device->id;
  return C_SUCCESS;
}
C_Status get_device(const C_Device device) {
  device->id = current_device;
  return C_SUCCESS;
}

C_Status create_stream(const C_Device, C_Stream* stream) {
  *stream = nullptr;  // Paddle compares it, so it must not stay uninitialised
  return C_SUCCESS;
}
C_Status stream_nothing(const C_Device, C_Stream) { return C_SUCCESS; }
C_Status create_event(const C_Device, C_Event* event) {
  *event = nullptr;
  return C_SUCCESS;
}
C_Status event_nothing(const C_Device, C_Event) { return C_SUCCESS; }
C_Status record_event(const C_Device, C_Stream, C_Event) { return C_SUCCESS; }
C_Status call_at_once(const C_Device device, C_Stream stream, C_Callback callback, void* user_data) {
  C_Status status = C_SUCCESS;
  callback(device, stream, user_data, &status);
  return status;
}

C_Status allocate(const C_Device, void** pointer, size_t size) {
  *pointer = std::malloc(size);
  return *pointer ? C_SUCCESS : C_FAILED;
}
C_Status deallocate(const C_Device, void* pointer, size_t) {
  std::free(pointer);
  return C_SUCCESS;
}
C_Status set_memory(const C_Device, void* pointer, unsigned char value, size_t size) {
  std::memset(pointer, value, size);
  return C_SUCCESS;
}
C_Status copy(const C_Device, void* target, const void* source, size_t size) {
  std::memcpy(target, source, size);
  return C_SUCCESS;
}
C_Status copy_async(const C_Device, C_Stream, void* target, const void* source, size_t size) {
  std::memcpy(target, source, size);
  return C_SUCCESS;
}

C_Status device_count(size_t* count) {
  *count = 1;
  return C_SUCCESS;
}
C_Status device_list(size_t* devices) {
  devices[0] = 0;
  return C_SUCCESS;
}
C_Status memory_stats(const C_Device, size_t* total, size_t* free) {
  *total = *free = size_t(8) << 30;
  return C_SUCCESS;
}
C_Status min_chunk(const C_Device, size_t* size) {
  *size = 512;
  return C_SUCCESS;
}

C_Status yes(const C_Device, bool* supported) {
  *supported = true;
  return C_SUCCESS;
}
// Paddle 3 asks the runtime; 2.6 has no such question.
template <typename Runtime>
auto support_half(Runtime* runtime, int) -> decltype(runtime->is_float16_supported, void()) {
  runtime->is_float16_supported = runtime->is_bfloat16_supported = yes;
}
template <typename Runtime>
void support_half(Runtime*, long) {}

}  // namespace

extern "C" __attribute__((visibility("default"))) void InitPlugin(CustomRuntimeParams* params) {
  PADDLE_CUSTOM_RUNTIME_CHECK_VERSION(params);
  static char type[] = "gpu_fake", version[] = "1";
  params->device_type = type;
  params->sub_device_type = version;
  C_DeviceInterface* runtime = params->interface;
  const size_t size = runtime->size;  // that of the Paddle which loads this
  std::memset(static_cast<void*>(runtime), 0, size < sizeof(*runtime) ? size : sizeof(*runtime));
  runtime->size = size;

  runtime->initialize = runtime->finalize = nothing;
  runtime->init_device = runtime->deinit_device = runtime->synchronize_device = device_nothing;
  runtime->set_device = set_device;
  runtime->get_device = get_device;
  runtime->create_stream = create_stream;
  runtime->destroy_stream = runtime->query_stream = runtime->synchronize_stream = stream_nothing;
  runtime->stream_add_callback = call_at_once;
  runtime->create_event = create_event;
  runtime->destroy_event = runtime->query_event = runtime->synchronize_event = event_nothing;
  runtime->record_event = runtime->stream_wait_event = record_event;

  runtime->device_memory_allocate = runtime->host_memory_allocate = runtime->unified_memory_allocate = allocate;
  runtime->device_memory_deallocate = runtime->host_memory_deallocate = runtime->unified_memory_deallocate = deallocate;
  runtime->device_memory_set = set_memory;
  runtime->memory_copy_h2d = runtime->memory_copy_d2h = runtime->memory_copy_d2d = copy;
  runtime->async_memory_copy_h2d = runtime->async_memory_copy_d2h = runtime->async_memory_copy_d2d = copy_async;

  runtime->get_device_count = device_count;
  runtime->get_device_list = device_list;
  runtime->device_memory_stats = memory_stats;
  runtime->device_min_chunk_size = min_chunk;
  support_half(runtime, 0);
}

// ---- kernels that Paddle does not fall back from ----

namespace gpu_fake {

// Offset, in elements, of the number-th element of a tensor in row-major order.
int64_t offset_of(int64_t number, const std::vector<int64_t>& dims, const std::vector<int64_t>& strides) {
  int64_t offset = 0;
  for (size_t axis = dims.size(); axis-- > 0; number /= dims[axis]) offset += number % dims[axis] * strides[axis];
  return offset;
}

std::vector<int64_t> row_major(const std::vector<int64_t>& dims) {
  std::vector<int64_t> strides(dims.size(), 1);
  for (size_t axis = dims.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * dims[axis];
  return strides;
}

// out: the same values in row-major order.
template <typename T>
void contiguous(const phi::Context& context, const phi::DenseTensor& x, phi::DenseTensor* out) {
  const std::vector<int64_t> dims = x.dims(), strides = x.strides();
  out->Resize(dims);
  out->set_strides(row_major(dims));
  out->set_offset(0);
  T* target = context.template Alloc<T>(out);
  const T* source = x.data<T>();
  for (int64_t i = 0, count = x.numel(); i < count; ++i) target[i] = source[offset_of(i, dims, strides)];
}

// Writes x, of any strides, into the view of out that dims, strides and offset (in bytes) describe.
template <typename T>
void strided_copy(const phi::Context&, const phi::DenseTensor& x, const std::vector<int64_t>& dims,
                  const std::vector<int64_t>& strides, int64_t offset, phi::DenseTensor* out) {
  const std::vector<int64_t> from_dims = x.dims(), from_strides = x.strides();
  out->Resize(dims);
  out->set_strides(strides);
  out->set_offset(offset);
  T* target = out->data<T>();
  const T* source = x.data<T>();
  for (int64_t i = 0, count = x.numel(); i < count; ++i)
    target[offset_of(i, dims, strides)] = source[offset_of(i, from_dims, from_strides)];
}

template <typename T>
void memcpy_d2h(const phi::Context& context, const phi::DenseTensor& x, int, phi::DenseTensor* out) {
  std::memcpy(context.template HostAlloc<T>(out), x.data<T>(), x.numel() * sizeof(T));
}

template <typename T>
void memcpy_h2d(const phi::Context& context, const phi::DenseTensor& x, int, phi::DenseTensor* out) {
  std::memcpy(context.template Alloc<T>(out), x.data<T>(), x.numel() * sizeof(T));
}

template <typename T>
void fill(const phi::Context& context, const phi::DenseTensor& x, const phi::Scalar& value, phi::DenseTensor* out) {
  T* target = context.template Alloc<T>(out);
  std::fill(target, target + x.numel(), static_cast<T>(value.to<double>()));
}

// The same bytes as uint8, four times as many columns; of other types nothing here takes a view.
template <typename T>
void view_dtype(const phi::Context& context, const phi::DenseTensor& x, phi::DataType type, phi::DenseTensor* out) {
  if (type != phi::DataType::UINT8) throw std::invalid_argument("gpu_fake: view_dtype goes to uint8 alone");
  std::vector<int64_t> dims = x.dims();
  dims.back() *= sizeof(T);
  out->Resize(dims);
  out->set_strides(row_major(dims));
  std::memcpy(context.template Alloc<uint8_t>(out), x.data<T>(), x.numel() * sizeof(T));
}

}  // namespace gpu_fake

#define FOR_ALL_TYPES(name, function)                                                                          \
  PD_BUILD_PHI_KERNEL(name, gpu_fake, ALL_LAYOUT, gpu_fake::function, bool, uint8_t, int8_t, int16_t, int32_t, \
                      int64_t, float, double, phi::dtype::float16, phi::dtype::bfloat16) {}
FOR_ALL_TYPES(contiguous, contiguous)
FOR_ALL_TYPES(strided_copy, strided_copy)
FOR_ALL_TYPES(fill, fill)
FOR_ALL_TYPES(memcpy_d2h, memcpy_d2h)
FOR_ALL_TYPES(memcpy_h2d, memcpy_h2d)
PD_BUILD_PHI_KERNEL(view_dtype, gpu_fake, ALL_LAYOUT, gpu_fake::view_dtype, int32_t) {}
