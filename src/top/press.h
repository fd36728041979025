// What a key does to the view. Pure.
#pragma once

#include "top/view.h"

namespace ballast::top {

// What the loop has to do beside drawing the view anew.
enum class Wish { kNothing, kQuit, kUpdate, kReadEvents, kSave, kRedraw };

Wish press(View& view, int key, const Size& size);

}  // namespace ballast::top
